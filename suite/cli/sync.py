"""`suite sync`: bring MLflow up to date with the store."""

from __future__ import annotations

from suite.cli import options


def sync(runs: options.Runs = None) -> None:
    """Bring MLflow and results.csv up to date with the store.

    Needed after detached Slurm jobs, and after runs during which MLflow could not be reached. MLflow is at
    $MLFLOW_TRACKING_URI, by default a database in the runs folder.
    """
    from suite.store.ledger import write_results
    from suite.tracking.mirror import Mirror, tracking_uri, without_password
    from suite.workspace import Workspace

    workspace = Workspace.of(None, runs)
    uri = tracking_uri(workspace.runs)
    if (workspace.runs / "grids").is_dir():
        write_results(workspace.store)
    changed = Mirror(workspace.store, uri).sync()
    print(f"{changed} MLflow runs created or changed at {without_password(uri, uri)}")
