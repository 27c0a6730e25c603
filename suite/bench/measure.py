"""Timed steps of the product's own training loops on random images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from suite.bench.cases import Case
from suite.bench.images import RandomImages
from suite.bench.result import Failure, Measurement, largest_batch
from suite.errors import TrainingError
from suite.execute.ddp.group import Accelerator, Rank, fabric_of
from suite.execute.device_errors import explained
from suite.execute.device_memory import release_device_memory
from suite.execute.loaders import torch_threads
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import kind_of
from suite.planning.costs import throughput_key
from suite.training import finetune, pretrain
from suite.training.feed import Ahead, Loading
from suite.training.session import Interrupted, Session

_WARM_STEPS = 2  # first steps choose algorithms and allocate memory
_FAR_FASTER = 2.0  # times the device's rate; at the same time both are slower than alone
_LEAST_STEPS = 2  # timed, however long they take
_ENDLESS = 100_000  # epochs: the loop is stopped from outside
_DTYPES = {"32-true": torch.float32, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class Setup:
    """How to measure."""

    device: Accelerator
    loading: Loading
    seconds: float  # per measurement
    threads: int


class TimedSession(Session):
    """Times the steps of a loop and stops it; saves and writes nothing."""

    def measure(self, warm_steps: int, seconds: float, multiple: int = 1) -> TimedSession:
        """Set what to time after `warm_steps`: `seconds`, at least `_LEAST_STEPS` steps, a multiple of `multiple`."""
        self._warm, self._seconds, self._multiple = warm_steps, seconds, multiple
        self._steps, self._began, self.rate = 0, 0.0, 0.0
        return self

    def checkpoint_if_asked(self, state: Callable[[], dict[str, Any]]) -> None:
        """After each step: read the clock; raise `Interrupted` at the end, when `rate` has steps per second."""
        self._steps += 1
        timed = self._steps - self._warm
        if timed < 0:
            return
        if timed == 0:
            self._began = self._clock()
        elif (
            timed >= _LEAST_STEPS and timed % self._multiple == 0 and time.perf_counter() - self._began >= self._seconds
        ):
            self.rate = timed / (self._clock() - self._began)
            raise Interrupted

    def write_metrics(self, line: dict[str, float]) -> None:
        """Nothing: the curve of random images is of no use."""

    def _clock(self) -> float:
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize(self.fabric.device)
        return time.perf_counter()


def measure(case: Case, batch: int, setup: Setup) -> Measurement | Failure:
    """Measure one objective.

    Args:
        case: with the batch of its recipe.
        batch: to measure with.
        setup: device and loaders.
    """
    recipe, key = case.spec.train, throughput_key(case.spec)
    case = case.with_train(batch_size=batch)
    if setup.device == "cpu" and recipe.precision == "16-mixed":  # needs a GPU
        case = case.with_train(precision="32-true")
    source = RandomImages(case.image_sizes, max(case.size.train, 2 * batch), case.size.classes)
    error = ""
    while True:
        try:
            rates = _rates(case, source, setup)
            break
        except torch.OutOfMemoryError as out_of_memory:
            error = error or explained(out_of_memory, case.spec)
        except TrainingError as refused:
            return Failure(case.name, case.spec.train.batch_size, str(refused))
        release_device_memory()  # what the traceback held
        smaller = case.spec.train.batch_size // 2 // case.batch_step * case.batch_step
        if not smaller:
            return Failure(case.name, recipe.batch_size, error)
        case = case.with_train(batch_size=smaller)
    batch, precision = case.spec.train.batch_size, case.spec.train.precision
    return Measurement(
        name=case.name,
        key=key,
        precision=precision,
        recipe_precision=recipe.precision,
        batch=batch,
        recipe_batch=recipe.batch_size,
        loop=rates.loop,
        device=max(rates.loop, rates.device),
        loaders_alone=rates.loaders_alone,
        loaders=setup.loading.loaders,
        macs=float(kind_of(case.spec).macs(case.spec)),
        peak_macs=peak_macs(setup.device, precision),
        memory=rates.memory,
        largest_batch=None if rates.ready_memory is None else _largest_batch(case, source, setup, rates.ready_memory),
        error=error,
    )


@dataclass(frozen=True)
class _Rates:
    """Images per second, and peak bytes on the device; None on a CPU."""

    device: float  # the loop that is given its views
    loaders_alone: float
    loop: float
    ready_memory: int | None  # of the loop that is given its views
    memory: int | None  # of the whole loop


def _rates(case: Case, source: RandomImages, setup: Setup) -> _Rates:
    """All three rates of one objective. The device comes first, so that a batch that does not fit fails at once."""
    batch, loading = case.spec.train.batch_size, setup.loading
    steps, ready_memory = _with_peak(
        setup.device, lambda: steps_per_second(case, source, setup, views_ready(loading), _WARM_STEPS)
    )
    device, loaders_alone = batch * steps, loaders_rate(case, source, setup)
    warm, multiple = _WARM_STEPS, 1
    if loading.loaders and loaders_alone < _FAR_FASTER * device:
        # Loaders may be the limit. Batches that were ready before the clock started must be used up: the rate is that
        # of hours, not of seconds. Loaders also finish their batches at about the same time, one each; so whole rounds
        # of them are timed. Where loaders are far faster, batches are always ready.
        warm, multiple = warm + loading.depth, loading.loaders
    steps, memory = _with_peak(setup.device, lambda: steps_per_second(case, source, setup, loading, warm, multiple))
    return _Rates(device, loaders_alone, batch * steps, ready_memory, memory)


def views_ready(loading: Loading) -> Loading:
    """Every step is given the views of the first one."""
    return replace(loading, loaders=0, first_batch_only=True)


def _with_peak(device: Accelerator, run: Callable[[], float]) -> tuple[float, int | None]:
    """What `run` returns, and the peak bytes on the device meanwhile; None on a CPU. Frees the memory afterwards."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        return run(), torch.cuda.max_memory_allocated() if device == "cuda" else None
    finally:
        release_device_memory()


def steps_per_second(
    case: Case, source: RandomImages, setup: Setup, loading: Loading, warm_steps: int, multiple: int = 1
) -> float:
    """Of the training loop of `suite.training`, after `warm_steps` steps and over a multiple of `multiple` steps."""
    torch.set_num_threads(torch_threads(setup.device, setup.loading.loaders, setup.threads))
    spec = case.spec
    fabric = fabric_of(Rank(), setup.device, 0, spec.train.precision)
    endless = spec.train.model_copy(update={"epochs": _ENDLESS})
    with tempfile.TemporaryDirectory(prefix="suite-bench-") as folder:
        session = TimedSession(Path(folder), fabric, loading=loading).measure(warm_steps, setup.seconds, multiple)
        with suppress(Interrupted):
            if isinstance(spec, PretrainSpec):
                pretrain.pretrain(spec.model_copy(update={"train": endless}), source, None, session)
            elif isinstance(spec, FinetuneSpec):
                spec = spec.model_copy(update={"train": endless})
                finetune.finetune(spec, source, source, case.size.classes, None, session)
    return session.rate


def loaders_rate(case: Case, source: RandomImages, setup: Setup) -> float:
    """Images per second of the loaders alone (one, where the loop has none), without training.

    They finish their batches at about the same time: one batch of each is not timed, then whole rounds are.
    """
    torch.set_num_threads(torch_threads(setup.device, setup.loading.loaders, setup.threads))
    spec, device = case.spec, torch.device(setup.device)
    loading = replace(setup.loading, loaders=max(1, setup.loading.loaders))
    feed = (
        pretrain.feed_of(spec, source, device, loading)
        if isinstance(spec, PretrainSpec)
        else finetune.feed_of(spec, source, device, loading)
    )
    with Ahead(feed.prepare, range(_ENDLESS), loading) as ahead:
        for _ in range(loading.loaders):
            ahead.take()
        steps, began = 0, time.perf_counter()
        while steps < _LEAST_STEPS or steps % loading.loaders or time.perf_counter() - began < setup.seconds:
            ahead.take()
            steps += 1
        return float(spec.train.batch_size * steps / (time.perf_counter() - began))


def _largest_batch(case: Case, source: RandomImages, setup: Setup, memory: int) -> int | None:
    """From the peaks of the loop that is given its views: `memory` at the measured batch, and that at half of it."""
    batch = case.spec.train.batch_size
    half = batch // 2 // case.batch_step * case.batch_step
    if not half:
        return None
    smaller, quick, ready = case.with_train(batch_size=half), replace(setup, seconds=0), views_ready(setup.loading)
    _, peak = _with_peak(setup.device, lambda: steps_per_second(smaller, source, quick, ready, 1))
    _, total = torch.cuda.mem_get_info()
    return None if peak is None else largest_batch([(half, peak), (batch, memory)], total, case.batch_step)


@cache
def peak_macs(device: Accelerator, precision: str) -> float:
    """Multiply-adds per second of a large square matrix product in a precision: what this device can reach."""
    side = 8192 if device == "cuda" else 1024
    dtype = _DTYPES[precision]
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def clock() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    best = 0.0
    for _ in range(3):
        began = clock()
        for _ in range(4):
            one @ other
        best = max(best, 4 * side**3 / (clock() - began))
    return best


def device_name(device: Accelerator) -> str:
    """Name of the card; of a CPU its architecture."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    import platform

    return platform.machine()
