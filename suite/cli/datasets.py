"""`suite data list`, `fetch`, `verify` and `pack`: obtain datasets and check them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suite.cli import options
from suite.cli.stage1 import fetch_stage1, stage1_lines
from suite.data.catalogue import names_of_datasets
from suite.paths import path_option

if TYPE_CHECKING:
    from suite.data.overview import Overview
    from suite.data.verify import Verification

Name = Annotated[str, typer.Argument(help=names_of_datasets())]
Json = Annotated[bool, typer.Option("--json", help="print as JSON")]


def list_(data: options.Data = None, runs: options.Runs = None, json_: Json = False) -> None:
    """Show the folder, counts and licence of every dataset."""
    from dataclasses import asdict

    from suite.data.catalogue import DATASETS
    from suite.data.overview import overview
    from suite.workspace import Workspace

    workspace = Workspace.of(data, runs)
    found = [overview(name, workspace.data, workspace.cache) for name in DATASETS]
    if json_:
        print(json.dumps([asdict(one) for one in found], indent=2))
    elif sys.stdout.isatty():
        _print_table(found, workspace.data)
        print("\n".join(stage1_lines(workspace.data)))
    else:
        for one in found:
            print("\n    ".join([f"{one.name:10}{one.state}", *_cells(one)]))
        print("\n    ".join(stage1_lines(workspace.data)))


def fetch(
    dataset: Annotated[str, typer.Argument(help=f"{names_of_datasets()}; or stage1: public checkpoints")],
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(help="with stage1: names of checkpoints [default: those of --stage1 public]"),
    ] = None,
    from_: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            parser=path_option("--from"),
            metavar="PATH",
            help="archive that you already have, recognised by its checksum; repeatable",
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="keep downloaded archives after unpacking")] = False,
    data: options.Data = None,
    runs: options.Runs = None,
) -> None:
    """Download a dataset, or public checkpoints for --stage1.

    Says what to obtain by hand if a source cannot be used.

    An interrupted download is resumed.
    """
    from suite.data.download.fetch import fetch as get
    from suite.errors import UsageError
    from suite.progress import preparation
    from suite.workspace import Workspace

    workspace = Workspace.of(data, runs)
    root = workspace.data
    if dataset == "stage1":
        fetch_stage1(checkpoints or (), root, workspace.cache, from_ or ())
        return
    if checkpoints:
        raise UsageError(
            f"one dataset at a time: `suite data fetch {dataset}`, then `suite data fetch {checkpoints[0]}`."
        )
    with preparation() as progress:
        found = get(dataset, root, progress, from_ or (), keep)
    print(f"{found.describe()}, in {found.root}")
    print(f"Licence: {found.info.licence}.", file=sys.stderr)
    if found.subset:
        print("For the complete dataset move this folder away, or give another --data.", file=sys.stderr)
    print(f"Next: suite data verify {dataset}", file=sys.stderr)


def verify(
    datasets: Annotated[
        list[str] | None, typer.Argument(help="datasets to check [default: every dataset below the data root]")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="read every image even if the dataset is unchanged since the last check")
    ] = False,
    data: options.Data = None,
    runs: options.Runs = None,
    plugin: options.Plugins = None,
    json_: Json = False,
) -> None:
    """Check the lists, counts, images and boxes of datasets.

    Also finds repeated pictures. Uses all cores. The exit code is 2 if anything is wrong.
    """
    from dataclasses import asdict

    from suite.data.catalogue import DATASETS
    from suite.data.datasets.load import find_folder
    from suite.data.verify import verify as check
    from suite.errors import DataError
    from suite.plugin import load_plugins
    from suite.progress import preparation
    from suite.workspace import Workspace

    load_plugins(plugin or ())
    workspace = Workspace.of(data, runs)
    names = list(datasets or ())
    for name in DATASETS if not names else ():
        try:
            find_folder(DATASETS[name], workspace.data)
            names.append(name)
        except DataError:
            continue
    if not names:
        raise DataError(f"no dataset below {workspace.data}. See `suite data list`, and `suite data fetch NAME`.")
    done: list[Verification] = []
    broken: dict[str, str] = {}
    for name in names:
        try:
            with preparation() as progress:
                done.append(check(name, workspace.data, workspace.cache, progress, again))
        except DataError as error:
            broken[name] = str(error)
    if json_:
        results = [{**asdict(one), "sound": one.sound} for one in done]
        print(json.dumps({"verified": results, "broken": broken}, indent=2))
    else:
        for one in done:
            how = f"verified before, {one.when} UTC" if one.cached else f"{one.images:,} images read in {one.seconds} s"
            print(f"{one.describe}: {'in order' if one.sound else 'NOT in order'} ({how})")
            for finding in one.findings:
                print(f"  {finding.level}: {finding.text}")
        for name, text in broken.items():
            print(f"{name}: NOT in order\n  error: {text}")
    if broken or not all(one.sound for one in done):
        raise typer.Exit(2)


def pack(
    dataset: Name,
    out: Annotated[
        Path,
        typer.Option("--out", parser=path_option("--out"), metavar="PATH", help="data root to write the subset into"),
    ],
    per_class: Annotated[int, typer.Option("--per-class", min=1, help="images per class, in train and in test each")],
    classes: Annotated[int, typer.Option("--classes", min=1, help="number of classes")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="the same seed gives the same bytes")] = 0,
    data: options.Data = None,
) -> None:
    """Write a small class-balanced subset in the official layout.

    COCO has no classes: give --per-class only.
    """
    from suite.data.pack import SubsetSpec
    from suite.data.pack import pack as write
    from suite.progress import preparation
    from suite.workspace import Workspace

    with preparation() as progress:
        made = write(dataset, Workspace.of(data, None).data, out, SubsetSpec(classes, per_class, seed), progress)
    print(f"{made.describe()}, in {made.root}")
    print(f"Licence: {made.info.licence}.", file=sys.stderr)


def _cells(one: Overview) -> list[str]:
    """Counts and check, saliency, decoded images, where it is or how to get it, licence."""
    lines = []
    if one.counts is not None:
        parts = {"train": one.counts.train, "test": one.counts.test, "classes": one.counts.classes}
        counts = ", ".join(f"{have:,}/{of:,} {what}" for what, (have, of) in parts.items() if of)
        check = "not verified" if one.verified is None else f"verified {one.verified[:10]}"
        lines.append(f"{counts}; {check}")
    lines += (f"{finding.level}: {finding.text}" for finding in one.findings)
    lines.append(one.folder if one.folder is not None else f"suite data fetch {one.name}")
    if one.state == "broken":
        lines.append(one.problem or "")
    if one.saliency:
        maps = (f"{m.detector}{' (oracle)' if m.oracle else ''} {m.computed:,}/{m.images:,}" for m in one.saliency)
        lines.append(f"saliency: {', '.join(maps)}")
    if one.decoded:
        stores = (
            f"{d.short_side} px {d.detector or 'images'} {'on demand, index ' * d.on_demand}{d.bytes / 1e6:,.0f} MB"
            + (" (outdated)" if d.current is False else "")
            for d in one.decoded
        )
        lines.append(f"decoded: {', '.join(stores)}")
    lines.append(f"licence: {one.licence}")
    return lines


def _print_table(found: list[Overview], root: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"complete": "green", "subset": "yellow", "synthetic": "yellow", "broken": "red", "missing": "dim"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True, title=f"Data root {root}", title_justify="left")
    for name in ("dataset", "state", ""):
        table.add_column(name, overflow="fold")
    for one in found:
        table.add_row(one.name, Text(one.state, style=colours[one.state]), Text("\n".join(_cells(one))))
    Console().print(table)
