"""`suite data synth`, `saliency`, `preview` and `counterfactuals`; the other commands are in datasets.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from suite.cli import datasets, options
from suite.cli.light import LightCommand, LightGroup
from suite.cores import cores
from suite.data.catalogue import names_of_datasets
from suite.paths import path_option

app = typer.Typer(
    cls=LightGroup,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Download, check and inspect datasets; compute saliency maps.",
)
app.command("list", cls=LightCommand)(datasets.list_)
app.command("fetch", cls=LightCommand)(datasets.fetch)
app.command("verify", cls=LightCommand)(datasets.verify)
app.command("pack", cls=LightCommand)(datasets.pack)

Dataset = Annotated[str, typer.Argument(help=names_of_datasets())]


@app.command("synth", cls=LightCommand)
def synth(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=path_option("--out"),
            metavar="PATH",
            help="data root to write [default: the cache of the runs folder]",
        ),
    ] = None,
    profile: options.ProfileName = "demo",
    runs: options.Runs = None,
) -> None:
    """Render the synthetic datasets of a profile."""
    from suite.data.synthetic.render import render_synthetic
    from suite.data.synthetic.write import write_synthetic
    from suite.errors import UsageError
    from suite.grid.profile import load_profile
    from suite.workspace import Workspace

    spec = load_profile(profile).synthetic
    if spec is None:
        raise UsageError(f"profile '{profile}' has no synthetic datasets; try --profile demo.")
    if out is None:
        out = render_synthetic(spec, Workspace.of(None, runs).cache)
    else:
        write_synthetic(out, spec)
    print(out)


@app.command("saliency", cls=LightCommand)
def saliency(
    dataset: Dataset,
    detector: Annotated[str, typer.Option("--detector", help="u2netp, spectral, boxes or masks")],
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            parser=path_option("--weights"),
            metavar="PATH",
            help="path of u2netp.onnx [default: searched for, then downloaded]",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, test or all")] = "all",
    profile: options.ProfileName = "paper",
    data: options.Data = None,
    runs: options.Runs = None,
    plugin: options.Plugins = None,
) -> None:
    """Compute the saliency maps of a dataset ahead of a run.

    The maps are cached. Prints the agreement with the official boxes of the boxes that the profile makes of them.
    """
    from suite.data.datasets.load import load_dataset
    from suite.data.saliency.detectors import make_detector
    from suite.data.saliency.maps import box_quality, compute_saliency
    from suite.errors import UsageError, unknown
    from suite.grid.profile import load_profile
    from suite.grid.recipe import recipe_without_pretraining
    from suite.plugin import load_plugins
    from suite.progress import preparation
    from suite.workspace import Workspace

    load_plugins(plugin or ())
    workspace = Workspace.of(data, runs)
    found = load_dataset(dataset, workspace.data)
    splits = {"train": found.train, "test": found.test, "all": (*found.train, *found.test)}
    if split not in splits:
        raise unknown("split", split, splits)
    box = recipe_without_pretraining(load_profile(profile), {}).saliency
    if box is None:
        raise UsageError(f"profile '{profile}' has no section saliency, which says how a map becomes a box.")
    made = make_detector(detector, workspace.data, workspace.cache, weights)
    with preparation() as progress:
        maps = compute_saliency(
            found, splits[split], made, workspace.cache, cores(),
            progress=lambda done, total: progress(f"saliency {dataset}", done, total),
        )  # fmt: skip
    print(maps.folder)
    if any(record.box is not None for record in splits[split]):
        quality = box_quality(found, maps, box.threshold, box.min_side)
        print(", ".join(f"{name} {value:.3f}" for name, value in quality.items()), file=sys.stderr)


@app.command("preview", cls=LightCommand)
def preview(
    dataset: Dataset,
    view: Annotated[str, typer.Option("--view", help="name of a view, such as saliency_swap")],
    out: Annotated[
        Path, typer.Option("--out", parser=path_option("--out"), metavar="PATH", help="PNG to write")
    ] = Path("preview.png"),
    profile: options.ProfileName = "paper",
    images: Annotated[int, typer.Option("--images", min=1, help="number of images")] = 8,
    seed: Annotated[int, typer.Option("--seed", help="seed of the choice of images and of the views")] = 0,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            parser=path_option("--weights"),
            metavar="PATH",
            help="backbone.safetensors, for views that depend on the network [default: an untrained one]",
        ),
    ] = None,
    data: options.Data = None,
    runs: options.Runs = None,
    plugin: options.Plugins = None,
    set_: options.Set = None,
) -> None:
    """Write a contact sheet of images and their views.

    Each view is shown before and after its colour changes, with its mask outlined.
    """
    from analysis.figures.views_preview import preview_sheet
    from suite.plugin import load_plugins
    from suite.workspace import Workspace

    load_plugins(plugin or ())
    print(preview_sheet(Workspace.of(data, runs), dataset, view, profile, set_ or [], images, seed, out, weights))


@app.command("counterfactuals", cls=LightCommand)
def counterfactuals(
    dataset: Dataset,
    out: Annotated[
        Path, typer.Option("--out", parser=path_option("--out"), metavar="PATH", help="PNG to write")
    ] = Path("counterfactuals.png"),
    profile: options.ProfileName = "paper",
    images: Annotated[int, typer.Option("--images", min=1, help="number of test images")] = 8,
    seed: Annotated[int, typer.Option("--seed", help="seed of the backgrounds and of the choice of images")] = 0,
    data: options.Data = None,
    runs: options.Runs = None,
    plugin: options.Plugins = None,
    set_: options.Set = None,
) -> None:
    """Write a contact sheet of images with exchanged backgrounds.

    These are the images by which background reliance is measured.
    """
    from analysis.figures.counterfactuals import counterfactual_sheet
    from suite.plugin import load_plugins
    from suite.workspace import Workspace

    load_plugins(plugin or ())
    print(counterfactual_sheet(Workspace.of(data, runs), dataset, profile, set_ or [], images, seed, out))
