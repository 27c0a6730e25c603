"""Progress of a run on standard error: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from suite.jobs.identity import Job, JobSpec
from suite.kinds.registry import TrainingSpec
from suite.text import duration

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class JobProgress:
    """Progress of a job with epochs, from the last line of its metrics."""

    epoch: int
    epochs: int
    loss: float
    images_per_second: float
    seconds_left: float

    @classmethod
    def of(cls, spec: JobSpec, line: dict[str, float]) -> JobProgress | None:
        """None for jobs without epochs."""
        if not isinstance(spec, TrainingSpec):
            return None
        epoch, epochs = line["epoch"], spec.train.epochs
        steps_left = (epochs / epoch - 1) * line["step"]
        left = steps_left * spec.train.batch_size / line["images_per_second"]
        return cls(int(epoch), epochs, line["loss"], line["images_per_second"], left)

    @property
    def columns(self) -> tuple[str, str, str, str]:
        """Epoch, loss, speed and time left as text."""
        return (
            f"{self.epoch}/{self.epochs}", f"{self.loss:.4f}", f"{self.images_per_second:.0f}/s",
            duration(self.seconds_left),
        )  # fmt: skip


class PlainLines:
    """Every start and end, and at most one line in five seconds per job."""

    def __init__(self, total: int) -> None:
        self.total, self.ends = total, 0
        self._last: dict[str, float] = {}

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to restore."""

    def started(self, job: Job) -> None:
        """Announce a start."""
        self._last[job.key] = time.monotonic()
        self.say(f"start {job.name} ({job.key})")

    def progress(self, job: Job, line: dict[str, float]) -> None:
        """Announce an epoch, unless one was announced just before."""
        now = time.monotonic()
        if now - self._last.get(job.key, 0.0) < 5 or (state := JobProgress.of(job.spec, line)) is None:
            return
        self._last[job.key] = now
        self.say(
            f"{job.name}: epoch {state.epoch}/{state.epochs}, loss {state.loss:.4f}, "
            f"{state.images_per_second:.0f} images/s, {duration(state.seconds_left)} left"
        )

    def ended(self, job: Job, outcome: str, error: str) -> None:
        """Announce an end."""
        self.ends += 1
        self.say(f"{outcome} {job.name}" + (f": {error}" if error else ""))

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"[{self.ends}/{self.total}] {text}", file=sys.stderr, flush=True)


def show_cursor() -> None:
    """Show the cursor that the live table hides; for an exit without clean-up."""
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h")


@dataclass
class _Row:
    job: Job
    since: float = field(default_factory=time.monotonic)
    progress: JobProgress | None = None


class LiveTable:
    """A live table of the running jobs; failures scroll by above it.

    Args:
        total: jobs to do.
        expected: seconds the whole run is expected to take, for the line below the table; 0 where unknown.
    """

    def __init__(self, total: int, expected: float = 0.0) -> None:
        from rich.console import Console
        from rich.live import Live

        self.total, self.expected, self.ends, self.failures = total, expected, 0, 0
        self._began = time.monotonic()
        self._rows: dict[str, _Row] = {}
        self.console = Console(stderr=True)
        self._live = Live(console=self.console, get_renderable=self.table, refresh_per_second=2, transient=True)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def started(self, job: Job) -> None:
        """Add the job's row."""
        self._rows[job.key] = _Row(job)

    def progress(self, job: Job, line: dict[str, float]) -> None:
        """Update the job's row."""
        if job.key in self._rows:
            self._rows[job.key].progress = JobProgress.of(job.spec, line)

    def ended(self, job: Job, outcome: str, error: str) -> None:
        """Remove the job's row; failures stay visible above the table."""
        self._rows.pop(job.key, None)
        self.ends += 1
        if outcome in {"failed", "skipped", "interrupted"}:
            self.failures += outcome != "interrupted"
            self.say(f"{outcome} {job.name}" + (f": {error}" if error else ""))

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self.console.print(text, markup=False, highlight=False)

    def table(self) -> Group:
        """Render the table."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        elapsed = time.monotonic() - self._began
        caption = f"{self.ends}/{self.total} jobs, {duration(elapsed)}"
        if self.failures:
            caption += f", {self.failures} failed or skipped"
        if self.expected > elapsed:
            caption += f", about {duration(self.expected - elapsed)} left"
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("job", overflow="ellipsis", no_wrap=True)
        for name in ("time", "epoch", "loss", "images", "left"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self._rows.values():
            columns = ("", "", "", "") if row.progress is None else row.progress.columns
            table.add_row(Text(row.job.name), duration(time.monotonic() - row.since), *columns)
        return Group(table, Text(caption))
