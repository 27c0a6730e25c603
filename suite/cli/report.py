"""`suite report`: tables, figures and a page from finished results."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from analysis.cam.options import COLOUR_MAPS, CamOptions
from methods.measures.cam_kinds import CAM_KINDS
from suite.cli import options
from suite.paths import path_option


def report(
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", help="grid to report on; repeatable [default: every grid in the store]"),
    ] = None,
    runs: options.Runs = None,
    from_mlflow: Annotated[
        str | None,
        typer.Option(
            "--from-mlflow", help="read the results from this MLflow server instead of --runs; without CAM figures"
        ),
    ] = None,
    plugin: options.Plugins = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="profile to report; required if a grid was run with more than one")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=path_option("--out"),
            metavar="PATH",
            help="folder to write to [default: RUNS/report; with --from-mlflow ./report]",
        ),
    ] = None,
    cam: Annotated[
        list[str] | None, typer.Option("--cam", help=f"{', '.join(CAM_KINDS)}; repeatable [default: gradcam]")
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="images per CAM figure")] = 5,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", help="file name of a test image to show; repeatable [default: random images]"),
    ] = None,
    image_seed: Annotated[int, typer.Option("--image-seed", min=0, help="seed of the random choice of images")] = 0,
    colormap: Annotated[str, typer.Option("--colormap", help=" or ".join(COLOUR_MAPS))] = "viridis",
    published: Annotated[
        str,
        typer.Option(
            "--published",
            help="published numbers in the tables. paper: those of the CVSA paper; all: other works' too; none",
        ),
    ] = "paper",
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="render the CAM figures")] = True,
) -> None:
    """Write tables, figures and an HTML page of the results."""
    from datetime import UTC, datetime

    from rich.console import Console

    from analysis.cells.published import published_choice
    from analysis.page.build import Creation
    from analysis.report import check_images, grids_run, write_overview, write_report
    from suite.cli.select import load_store_plugins
    from suite.errors import UsageError
    from suite.redact import redact
    from suite.workspace import Workspace

    if from_mlflow is not None and runs is not None:
        raise UsageError("--from-mlflow and --runs both name a source of results; give one of them.")
    if from_mlflow is not None and not grid:
        raise UsageError("--from-mlflow needs the grids by name: --grid NAME, repeatable.")
    choice = published_choice(published)
    cam_options = CamOptions(tuple(cam or ("gradcam",)), images, tuple(image or ()), image_seed, colormap)
    workspace, out_folder = Workspace.of(None, runs), out
    load_store_plugins(workspace.runs, plugin or ())
    with ExitStack() as stack:
        grids = list(dict.fromkeys(grid or grids_run(workspace)))
        if from_mlflow is not None:
            from suite.grid.evaluation import EVALUATION
            from suite.grid.spec import load_grid
            from suite.tracking.restore import mirrored

            names = [name if name == EVALUATION else load_grid(name).name for name in grids]
            workspace, out_folder = stack.enter_context(mirrored(from_mlflow, names, profile)), out or Path("report")
            if figures:
                print("No CAM figures: MLflow holds neither weights nor images.", file=sys.stderr)
            figures = False
        folder, cams = out_folder or workspace.runs / "report", cam_options if figures else None
        if cams is not None:
            check_images(workspace, grids, profile, cams)
        reports, console = [], Console()
        for name in grids:
            with Console(stderr=True).status(f"{name}: tables and figures ..."):
                report = write_report(workspace, name, profile, folder, cams, choice)
            reports.append(report)
            console.print(report.table)
            console.print(report.setup)
            for table in report.metric_tables:
                console.print(f"{table.title}:", str(folder / f"{table.name}.csv"), markup=False, soft_wrap=True)
        command = redact(shlex.join(["suite", *sys.argv[1:]]))
        creation = Creation(datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), command)
        overview = write_overview(workspace, reports, folder, cams, creation)
        for path in [*(path for report in reports for path in report.files), *overview]:
            print(path)
