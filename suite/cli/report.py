"""`suite report`: tables and figures from finished results."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from suite.cli import options


def report(
    grid: Annotated[list[str], typer.Option("--grid", help="grid to report on; repeatable")],
    runs: options.Runs = None,
    from_mlflow: Annotated[
        str | None, typer.Option("--from-mlflow", help="URI of an MLflow server to read instead of --runs: tables only")
    ] = None,
    plugin: options.Plugins = None,
    profile: Annotated[str | None, typer.Option("--profile", help="which, where a grid was run with several")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder to write to [default: RUNS/report; with --from-mlflow ./report]"),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="photographs in a Grad-CAM figure")] = 5,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="draw the Grad-CAM figures")] = True,
) -> None:
    """Write the LaTeX and CSV table of each grid and its Grad-CAM figures, and print the table."""
    from rich.console import Console

    from analysis.metric_text import to_text
    from analysis.report import write_report
    from suite.errors import UsageError
    from suite.plugin import load_plugins
    from suite.workspace import Workspace

    if from_mlflow is not None and runs is not None:
        raise UsageError("--from-mlflow and --runs are two places to read results from; give one of them.")
    load_plugins(plugin or ())
    with ExitStack() as stack:
        workspace, place = Workspace.of(None, runs), out
        if from_mlflow is not None:
            from suite.grid.spec import load_grid
            from suite.tracking_read import mirrored

            names = [load_grid(name).name for name in grid]
            workspace, place = stack.enter_context(mirrored(from_mlflow, names, profile)), out or Path("report")
            if figures:
                print("No Grad-CAM figures: MLflow is read without weights and images.", file=sys.stderr)
            figures = False
        for name in grid:
            written = write_report(
                workspace, name, profile, place or workspace.runs / "report", images if figures else 0
            )
            for table in (written.table, *map(to_text, written.more)):
                Console().print(table)
            for path in written.files:
                print(path)
