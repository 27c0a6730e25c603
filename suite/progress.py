"""Progress of slow work on data: a bar on a terminal, plain lines elsewhere. All on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]  # label, done, total
CountProgress = Callable[[int, int], None]  # done, total


@contextlib.contextmanager
def preparation() -> Iterator[Progress]:
    """A function to call with (label, done, total) as often as one likes."""
    if not sys.stderr.isatty():
        yield PreparationLines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True),
    )  # fmt: skip
    with bars:
        tasks = {}

        def show(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield show


def labelled_progress(progress: Progress, label: str) -> CountProgress:
    """A function to call with (done, total)."""
    return lambda done, total: progress(label, done, total)


def megabytes(progress: Progress, label: str) -> CountProgress:
    """A function to call with (bytes done, bytes in all); reports whole megabytes, and each only once."""
    last = -1

    def show(done: int, total: int) -> None:
        nonlocal last
        if (now := done // 1_000_000) != last or done == total:
            last = now
            progress(f"{label}, MB", now, max(total, done) // 1_000_000)

    return show


class PreparationLines:
    """Preparation of data: one line at the start and at the end of each step, and every ten seconds."""

    def __init__(self) -> None:
        self._last = (0.0, "")

    def __call__(self, label: str, done: int, total: int) -> None:
        """Report that `done` of `total` are done."""
        now = time.monotonic()
        if label != self._last[1] or done == total or now - self._last[0] > 10:
            self._last = (now, label)
            print(f"{label}: {done}/{total}", file=sys.stderr, flush=True)
