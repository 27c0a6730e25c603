"""What all training loops share: where to continue, one line of metrics per epoch, checkpoints, time."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from suite.training.scalars import StepScalars
from suite.training.schedule import Batches
from suite.training.session import Interrupted, Session

T = TypeVar("T")


class TrainingLoop:
    """The bookkeeping of one training loop.

    Args:
        session: folder, checkpoints and reports of the job.
        batches: the steps of an epoch, and of the whole loop.
        state: the loop's own part of a checkpoint, such as the state dicts of network and optimiser.
    """

    def __init__(self, session: Session, batches: Batches, state: Callable[[], dict[str, Any]]) -> None:
        self.scalars = StepScalars(session.fabric)
        self.start = 0  # first step of this attempt
        self.last_line: dict[str, float] = {}  # metrics of the last epoch; empty before the first one ends
        self.seconds = 0.0  # of this attempt's steps
        self._session, self._batches, self._state = session, batches, state
        self._began = 0.0

    def resume(self) -> dict[str, Any] | None:
        """The checkpoint of an earlier attempt, for the loop to restore its own part from; None for a fresh start.

        Step, means, torch's random state and the loss scale are restored here.
        """
        checkpoint = self._session.resume()
        if checkpoint is not None:
            self._session.restore(checkpoint)
            self.scalars.restore(checkpoint["means"])
            self.start = int(checkpoint["step"])
            if self.start == self._batches.total:  # only the measurement is missing
                self.last_line = self._session.last_metrics()
        return checkpoint

    @contextmanager
    def timed(self, steps: Generator[T, None, None]) -> Iterator[Generator[T, None, None]]:
        """The steps, with the clock running; afterwards they are closed, and the last loss has been checked.

        Raises:
            TrainingError: the last loss was not finite.
        """
        self._began = time.monotonic()
        with closing(steps):
            yield steps
        self.scalars.check()
        self.seconds = time.monotonic() - self._began

    def end_of_step(self, step: int, rate: float, watch: Callable[[int], dict[str, float]] = lambda _: {}) -> None:
        """Write the epoch's line where `step` ends one; save if a checkpoint is due.

        Args:
            step: the one that is done.
            rate: its learning rate.
            watch: measures after an epoch, whose number (from 1) it is given; its metrics go into the curve only.

        Raises:
            Interrupted: asked to stop; the state is saved.
            TrainingError: a loss that is not finite.
        """
        done = step + 1
        if done % self._batches.per_epoch == 0:
            epoch = done // self._batches.per_epoch
            self.last_line = {"epoch": epoch, "step": done, "lr": rate, **self.scalars.take()}
            speed = (done - self.start) * self._batches.batch_size / (time.monotonic() - self._began)
            self._session.write_metrics({**self.last_line, "images_per_second": speed, **watch(epoch)})
        if done < self._batches.total:
            self._session.checkpoint_if_asked(lambda: self._checkpoint(done))

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """A measurement after the last step: if it is interrupted, the state is saved, and the next attempt only
        measures."""
        try:
            yield
        except Interrupted:
            self._session.save(self._checkpoint(self._batches.total))
            raise

    @property
    def images(self) -> int:
        """Number of images that passed through the network in this attempt, once all steps are done."""
        return (self._batches.total - self.start) * self._batches.batch_size

    def _checkpoint(self, done: int) -> dict[str, Any]:
        return {"step": done, **self._state(), "means": self.scalars.state()}
