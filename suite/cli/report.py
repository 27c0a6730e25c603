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
    images: Annotated[int, typer.Option("--images", min=1, help="photographs in a Grad-CAM figure")] = 5,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="draw the Grad-CAM figures")] = True,
) -> None:
    """Write the LaTeX and CSV table of each grid and its Grad-CAM figures, and print the table."""
    from rich.console import Console

    from analysis.metric_text import to_text
    from analysis.report import write_report
    from suite.plugin import load_plugins
    from suite.workspace import Workspace

    load_plugins(plugin or ())
    workspace = Workspace.of(None, runs)
    for name in grid:
        written = write_report(workspace, name, profile, out or workspace.runs / "report", images if figures else 0)
        for table in (written.table, *map(to_text, written.more)):
            Console().print(table)
        for path in written.files:
            print(path)
