"""Sync the store to MLflow from a separate process, so that a slow or hung tracking server cannot block training."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from suite.execute.ddp.spawned import end_with_parent
from suite.execute.local.pool import CONTEXT
from suite.execute.signals import block_signals, ignore_signals
from suite.output import protect_streams
from suite.redact import redact
from suite.store.store import Store
from suite.tracking.mirror import Mirror
from suite.tracking.problems import describe_tracker_error

log = logging.getLogger(__name__)

_POLL_SECONDS = 10.0  # between two looks at the store
_PATIENCE = 60.0  # seconds a run waits at its end for MLflow to catch up
_GRACE = 15.0  # seconds more for the one call to MLflow that is under way then


class BackgroundMirror:
    """A context manager around the jobs of a run. A tracker that is down is reported once and never stops anything; one
    that is slow is waited for at the end, but not for long.

    Args:
        store: what is mirrored.
        uri: of the server or database.
        grid: name of the grid, or `tune/<study>`.
    """

    def __init__(self, store: Store, uri: str, grid: str) -> None:
        self._uri = uri
        self._connection, self._theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(
            target=_serve, args=(self._theirs, store.root, uri, grid), name="suite-mlflow", daemon=True
        )

    def __enter__(self) -> BackgroundMirror:
        with block_signals():
            self._process.start()
        self._theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # it has died: the same as a tracker that is down
            self._connection.send(_PATIENCE)
        self._process.join(_PATIENCE + _GRACE)
        if self._process.exitcode != 0:
            self._process.kill()
            _say_behind(self._uri)


def _serve(connection: Connection, root: Path, uri: str, grid: str) -> None:
    """Main loop of the process: sync every few seconds until told to end, or until the parent exits."""
    ignore_signals()
    protect_streams()
    threading.Thread(target=end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    deadline = float("inf")
    mirror = Mirror(Store(root), uri, lambda: time.monotonic() > deadline)
    warned = False
    with suppress(EOFError):
        while True:  # at once for the first time: what takes long then, a new database, is not waited for at the end
            warned = _sync(mirror, grid, include_unstarted=False, warned=warned)
            if connection.poll(_POLL_SECONDS):
                break
        deadline = time.monotonic() + connection.recv()
        _sync(mirror, grid, include_unstarted=True, warned=warned)
    if mirror.behind:
        _say_behind(uri)


def _sync(mirror: Mirror, grid: str, include_unstarted: bool, warned: bool) -> bool:
    """Whether by now a failure has been reported."""
    try:
        mirror.sync(grid, include_unstarted)
    except Exception as error:  # noqa: BLE001  - the tracker may fail in any way; training must not
        if not warned:
            log.warning("%s Training goes on; `suite sync` catches up.", describe_tracker_error(error, mirror.uri))
        return True
    return warned


def _say_behind(uri: str) -> None:
    log.warning("MLflow at %s does not have all results of this run yet; `suite sync` adds the rest.", redact(uri))
