"""What `suite bench` found about one objective, and the settings that follow from it. Pure arithmetic, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_HEADROOM = 0.92  # of the device's memory: contexts, libraries and fragments take the rest
_MARGIN = 1.1  # loaders are to be this much faster than the device


@dataclass(frozen=True)
class Measurement:
    """One objective on this device. Rates are images per second; all views of an image are one."""

    name: str
    key: str  # `throughput_key`
    precision: str  # measured
    recipe_precision: str
    batch: int  # measured
    recipe_batch: int
    loop: float  # the whole loop, as a run has it
    device: float  # the same loop, given its views
    loaders_alone: float  # the loaders, without training
    loaders: int  # threads that made `loop`; 0: views are made within the step
    macs: float  # multiply-adds of the backbone per image
    peak_macs: float  # per second, of a large matrix product in this precision
    memory: int | None = None  # peak bytes of the device at `batch`; None on a CPU
    largest_batch: int | None = None  # that fits the device's memory, estimated; None on a CPU
    error: str = ""  # why the recipe's batch could not be measured

    @property
    def holds_for_recipe(self) -> bool:
        """Whether `loop` says how fast the recipe's jobs run here. A smaller batch says it per image, if the recipe's
        would have fitted."""
        return not self.error and self.precision == self.recipe_precision

    @property
    def waiting(self) -> float:
        """Share of the loop's time, 0 to 1, in which the device waits for views."""
        return max(0.0, 1 - self.loop / self.device)

    @property
    def share_of_peak(self) -> float:
        """Multiply-adds per second of the loop over those of a large matrix product."""
        return self.loop * self.macs / self.peak_macs

    @property
    def loaders_needed(self) -> int:
        """Loaders that keep the device busy with a tenth to spare."""
        per_loader = self.loaders_alone / max(1, self.loaders)
        return max(1, math.ceil(_MARGIN * self.device / per_loader))

    @property
    def limit(self) -> str:
        """What limits the throughput: the loaders or the device."""
        if not self.loaders:
            return f"views are made within the step: {100 * self.waiting:.0f} % of it"
        if self.loaders_alone < self.device:
            return f"the device waits for loaders, {100 * self.waiting:.0f} % of the time"
        return "loaders wait for the device"


@dataclass(frozen=True)
class Failure:
    """An objective that could not be measured."""

    name: str
    batch: int
    error: str


@dataclass(frozen=True)
class Advice:
    """Options for `suite run` on this machine."""

    workers: int
    loaders: int
    sentence: str


def largest_batch(peaks: Sequence[tuple[int, int]], total: int, step: int) -> int | None:
    """The largest batch that should fit, from the peaks of two batches: memory grows linearly with the batch.

    Args:
        peaks: (batch, bytes) twice.
        total: the device's memory, bytes.
        step: batches have to be multiples of it.

    Returns:
        A multiple of `step`; None where the two peaks do not grow with the batch.
    """
    (small, low), (large, high) = sorted(peaks)
    if large == small or high <= low:
        return None
    per_image = (high - low) / (large - small)
    fixed = high - per_image * large
    fitting = int((_HEADROOM * total - fixed) / per_image)
    return max(0, fitting // step * step)


def advise(measured: Sequence[Measurement], device: str, workers: int, cores: int) -> Advice | None:
    """Workers and loaders for the objectives that were measured.

    On a GPU: one worker per GPU, and as many loaders as the most demanding objective needs, within the cores. On a CPU
    training itself keeps all cores busy: one loader.
    """
    if not measured:
        return None
    if device == "cpu":
        return Advice(workers, 1, "On a CPU, training keeps the cores busy; further loaders would take them from it.")
    available = max(1, cores // workers - 1)
    hungriest = max(measured, key=lambda one: one.loaders_needed)
    loaders = min(available, hungriest.loaders_needed)
    if hungriest.loaders_needed > available:
        starved = sorted(one.name for one in measured if one.loaders_needed > available)
        sentence = (
            f"{hungriest.name} would need {hungriest.loaders_needed} loaders per GPU, but {cores} cores for {workers} "
            f"GPU{'s' * (workers > 1)} leave {available}: the GPU will wait in {', '.join(starved)}. Ask for more "
            "cores per GPU (cpus_per_task on Slurm)."
        )
    else:
        sentence = f"{hungriest.name} needs the most loaders."
    return Advice(workers, loaders, sentence)
