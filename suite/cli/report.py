"""`suite report`: tables and figures from finished results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suite.cli import options


def report(
    grid: Annotated[list[str], typer.Option("--grid", help="grid to report on; repeatable")],
    runs: options.Runs = None,
    plugin: options.Plugins = None,
    profile: Annotated[str | None, typer.Option("--profile", help="which, where a grid was run with several")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder to write to [default: RUNS/report]")] = None,
    cam: Annotated[list[str] | None, typer.Option("--cam", help="kind of CAM, such as gradcam++; repeatable")] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="photographs in a CAM figure")] = 5,
    image: Annotated[
        list[str] | None, typer.Option("--image", help="file name of a test image to show; repeatable [default: drawn]")
    ] = None,
    image_seed: Annotated[int, typer.Option("--image-seed", min=0, help="draws the photographs")] = 0,
    colormap: Annotated[str, typer.Option("--colormap", help="viridis or jet")] = "viridis",
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="draw the CAM figures")] = True,
) -> None:
    """Write index.html, the LaTeX and CSV table of each grid and its CAM figures, and print the tables."""
    from rich.console import Console

    from analysis.cam_options import CamOptions
    from analysis.report import check_images, write_overview, write_report
    from suite.plugin import load_plugins
    from suite.workspace import Workspace

    load_plugins(plugin or ())
    workspace, grids = Workspace.of(None, runs), list(dict.fromkeys(grid))
    cams = CamOptions(tuple(cam or ("gradcam",)), images, tuple(image or ()), image_seed, colormap)
    if cams.files:
        check_images(workspace, grids, profile, cams)
    place, reports, shown = out or workspace.runs / "report", [], cams if figures else None
    for name in grids:
        reports.append(write_report(workspace, name, profile, place, shown))
        Console().print(reports[-1].table)
    for path in [
        *(path for written in reports for path in written.files),
        *write_overview(workspace, reports, place, shown),
    ]:
        print(path)
