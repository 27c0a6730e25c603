"""Batches made ahead: background loaders make the views of the next steps while the device trains.

Loaders are threads of the training process (docs/throughput.md has the reasons). Resampling runs outside of the
interpreter's lock (methods/views/resampling.py), so threads use their cores; they read the memory-mapped store without
a copy, hand over their batch without /dev/shm (64 MB in many containers), may be used in the daemonic processes that
run jobs, and start in microseconds.

A loader makes whole batches: the geometry, and on a CPU device the colour changes too. On CUDA it makes them in
page-locked memory; the copy and the colour changes run on a side stream while the step before is computed. The views
of a step are a function of (seed, purpose, step) alone, so neither the number of loaders nor a resume changes a bit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from methods.distributed import shard
from methods.views.base import PreparedBatch, ViewMaker
from methods.views.batch import Boxes, Views
from methods.views.resampling import page_locked, reused
from suite.training.schedule import Batches

T = TypeVar("T")


@dataclass(frozen=True)
class Loading:
    """How batches are made ahead. Part of no job's identity: results do not depend on it."""

    loaders: int = 0  # threads; 0: batches are made within the step
    steps_ahead: int | None = None  # batches that are ready or in work at a time; None: one more than loaders
    first_batch_only: bool = False  # every step gets the views of the first one: `suite bench` times the device so

    @property
    def depth(self) -> int:
        """Batches in memory at most, besides the one that is trained on."""
        return max(1, self.loaders + 1 if self.steps_ahead is None else self.steps_ahead)


class Ahead(Generic[T]):
    """`make(0), make(1), ...` in order, computed by background threads, at most `loading.depth` items ahead.

    Use as a context manager: on leaving, items in work are finished, the others dropped, and all threads have ended.
    An exception in `make` is raised where its item is asked for. With 0 loaders `make` is called when asked.
    """

    def __init__(self, make: Callable[[int], T], steps: range, loading: Loading) -> None:
        self._make, self._steps, self._loading = make, iter(steps), loading
        self._tasks: SimpleQueue[tuple[int, Future[T]] | None] = SimpleQueue()
        self._pending: deque[Future[T]] = deque()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Ahead[T]:
        for number in range(self._loading.loaders):
            # Daemons, so that an interpreter that is told to end does not wait for them.
            thread = threading.Thread(target=self._work, name=f"loader-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        if self._threads:
            for _ in range(self._loading.depth):
                self._submit()
        return self

    def __exit__(self, *exception: object) -> None:
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        for _ in range(len(self._threads)):
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def take(self) -> T:
        """The next item; waits for it where it is not ready."""
        if not self._threads:
            return self._make(next(self._steps))
        item = self._pending.popleft().result()
        self._submit()
        return item

    @property
    def ready(self) -> bool:
        """Whether `take` would return at once."""
        return bool(self._pending) and self._pending[0].done()

    def _submit(self) -> None:
        if (step := next(self._steps, None)) is not None:
            future: Future[T] = Future()
            self._pending.append(future)
            self._tasks.put((step, future))

    def _work(self) -> None:
        with reused():
            while (task := self._tasks.get()) is not None:
                step, future = task
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    future.set_result(self._make(step))
                except BaseException as error:  # noqa: BLE001 - raised by `take`
                    future.set_exception(error)
                del task, future  # the batch must not stay in memory until the next one comes


class Feed:
    """The views of the steps of a training loop, in order.

    Args:
        views: makes them.
        batches: which images each step uses.
        random: the generator of a step, fresh at each call.
        device: where the views are wanted.
        loading: loaders and steps ahead.
        by_row: see `ViewMaker.prepare`.
        labels: int64 [N] of all images, to be handed over with the views of their batch; None: as the views have them.
    """

    def __init__(
        self,
        views: ViewMaker,
        batches: Batches,
        random: Callable[[int], torch.Generator],
        device: torch.device,
        loading: Loading,
        *,
        by_row: bool = True,
        labels: Tensor | None = None,
    ) -> None:
        self.views, self.batches, self._random, self._device = views, batches, random, device
        self._loading, self._by_row, self._labels = loading, by_row, labels
        self._cuda = device.type == "cuda"

    def steps(self, start: int = 0, end: int | None = None) -> Generator[tuple[int, Views], None, None]:
        """(step, views) from `start` to before `end`, by default to the last step.

        Close the iterator, or exhaust it, to end the loaders.
        """
        end = self.batches.total if end is None else end
        if self._loading.first_batch_only:
            prepared = self.prepare(start)
            first = prepared if isinstance(prepared, Views) else self._finish(prepared)
            yield from ((step, first) for step in range(start, end))
            return
        with Ahead(self.prepare, range(start, end), self._loading) as ahead:
            side = None
            if self._cuda and self._loading.loaders:
                side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            moving: Views | None = None
            for step in range(start, end):
                if side is None:
                    prepared = ahead.take()
                    yield step, prepared if isinstance(prepared, Views) else self._finish(prepared)
                    continue
                views = self._move(ahead.take(), side) if moving is None else moving
                torch.cuda.current_stream(self._device).wait_stream(side)
                for tensor in _tensors(views):
                    tensor.record_stream(torch.cuda.current_stream(self._device))
                # The next batch is copied and coloured while this step is computed, if a loader has it ready.
                moving = self._move(ahead.take(), side) if ahead.ready else None
                yield step, views

    def prepare(self, step: int) -> PreparedBatch | Views:
        """The loaders' part of a step's views. Called in a loader, or within the step where there is none."""
        indices = self.batches.indices(step)
        with page_locked() if self._cuda and self._loading.loaders else nullcontext():
            batch = self.views.prepare(indices, self._random(step), self._by_row)
        if self._labels is not None and batch.crops is not None:
            batch.crops.labels = shard(self._labels[indices])
        if not self._loading.loaders:
            return batch
        if self._cuda:
            return batch.pin_memory()  # what is not page-locked yet
        # A plugin's own `colours` or `__call__` (no parameters then) may draw from torch's generator or keep state: it
        # is called within the step, in the order of the steps.
        return batch if batch.parameters is None else self._finish(batch)

    def _finish(self, batch: PreparedBatch) -> Views:
        return self.views.finish(batch, self._device)

    def _move(self, batch: PreparedBatch | Views, side: torch.cuda.Stream) -> Views:
        if isinstance(batch, Views):
            return batch
        if batch.parameters is None:
            return self._finish(batch)
        with torch.cuda.stream(side):
            return self._finish(batch.to(self._device, non_blocking=True))


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of a dataclass, list, `Boxes` or tensor."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | Boxes):
        for item in value:
            yield from _tensors(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
