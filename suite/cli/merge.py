"""`suite merge`: add the results of another store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suite.cli import options
from suite.paths import path_option


def merge(
    other: Annotated[
        Path,
        typer.Argument(metavar="OTHER", parser=path_option("OTHER"), help="result store to add; it is only read"),
    ],
    runs: options.Runs = None,
    skip_conflicts: Annotated[
        bool, typer.Option("--skip-conflicts", help="keep conflicting cells as they are here and merge the others")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be merged; change nothing")] = False,
) -> None:
    """Add the finished cells of another store to this one.

    Cells with other settings or other numbers in the two stores are conflicts: they are named and nothing is merged.
    """
    from suite.store.merge import merge as merge_stores
    from suite.store.store import Store
    from suite.workspace import Workspace

    store = Workspace.of(None, runs).store
    outcome = merge_stores(store, Store(other), skip_conflicts=skip_conflicts, dry_run=dry_run)
    would = "would be " if dry_run else ""
    print(
        f"{len(outcome.cells)} cells and {len(outcome.jobs)} jobs {would}added to {store.root}; "
        f"{outcome.identical} known"
    )
    for what, names in (("left out, not finished", outcome.unfinished), ("left out, conflict", outcome.conflicts)):
        for name in names:
            print(f"{what}: {name}")
    if outcome.cells and not dry_run:
        print("next: suite report; suite sync brings MLflow up to date")
