"""Prepare the data of a run so that `suite status` shows it and `suite cancel` and Ctrl-C stop it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from suite.data.record import Dataset
from suite.execute.prepare import prepare
from suite.execute.signals import handle_signals
from suite.jobs.identity import Job
from suite.progress import preparation
from suite.store.active import POLL_SECONDS, ActiveRun


class PreparationStopped(Exception):
    """`suite cancel` has asked the run to stop. Maps and images that are finished stay in the cache."""


def prepare_visibly(
    jobs: Iterable[Job], datasets: Mapping[str, Dataset], data_root: Path, cache: Path, run: ActiveRun
) -> None:
    """As `suite.execute.prepare.prepare`, with the progress noted in the run's entry.

    Raises:
        PreparationStopped: the run was asked to stop.
        KeyboardInterrupt: Ctrl-C, or SIGTERM as a batch system sends it.
        DataError: as `prepare`.
    """
    last = 0.0

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with handle_signals(interrupted), preparation() as show:

        def progress(what: str, done: int, total: int) -> None:
            nonlocal last
            show(what, done, total)
            if time.monotonic() - last < POLL_SECONDS and done < total:
                return
            last = time.monotonic()
            if run.asked_to_stop():
                raise PreparationStopped
            run.note(f"preparing: {what}, {done:,} of {total:,}")

        prepare(jobs, datasets, data_root, cache, progress)
    run.note("")
