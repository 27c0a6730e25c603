"""`suite sync`: bring MLflow up to date with the store."""

from __future__ import annotations

import logging
import sys

from suite.cli import options


def sync(runs: options.Runs = None) -> None:
    """Bring MLflow and results.csv up to date with the store.

    Needed after detached Slurm jobs, and after runs during which MLflow could not be reached. MLflow is at
    $MLFLOW_TRACKING_URI, by default a database in the runs folder.
    """
    from suite.redact import redact
    from suite.store.ledger import write_results
    from suite.tracking.address import tracking_uri
    from suite.tracking.mirror import Mirror
    from suite.tracking.problems import is_tracker_error, tracker_error
    from suite.workspace import Workspace

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    workspace = Workspace.of(None, runs)
    uri = tracking_uri(workspace.runs)
    if (workspace.runs / "grids").is_dir():
        write_results(workspace.store)
    try:
        changed = Mirror(workspace.store, uri).sync()
    except Exception as error:
        if not is_tracker_error(error):
            raise
        raise tracker_error(error, uri) from None
    print(f"{changed} MLflow runs created or changed at {redact(uri)}")
