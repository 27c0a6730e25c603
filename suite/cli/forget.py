"""`suite forget`: take a cell out of status and report."""

from __future__ import annotations

from typing import Annotated

import typer

from suite.cli import options


def forget(
    cell: Annotated[str, typer.Argument(help="cell id, such as byol/cub/0; without the seed: all of its seeds")],
    grid: Annotated[str | None, typer.Option("--grid", help="required if several grids have the cell")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="required if several profiles have the cell")] = None,
    runs: options.Runs = None,
) -> None:
    """Remove a cell from status and report, and move its jobs aside.

    Jobs that other cells or studies use stay. Nothing is deleted: the jobs and the record lie in RUNS/forgotten. The
    next `suite run` of the cell trains it again. MLflow keeps its runs.
    """
    from suite.store.forget import forget as forget_cell
    from suite.workspace import Workspace

    store = Workspace.of(None, runs).store
    outcome = forget_cell(store, cell, grid, profile)
    print(f"forgotten: {', '.join(record.id for record in outcome.cells)}")
    print(f"{len(outcome.moved)} jobs moved to {outcome.folder}")
    for key, users in outcome.still_used.items():
        more = f" and {len(users) - 3} more" if len(users) > 3 else ""
        print(f"kept {key}: also used by {', '.join(users[:3])}{more}")
