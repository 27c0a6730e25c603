"""The surroundings of a running job: folders, device, stop request, reports. No part of the job's identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from suite.training.online import OnlineKnn


@dataclass(frozen=True)
class RunPaths:
    """Folders and plugin files of a run on this machine."""

    runs: Path
    cache: Path
    plugins: tuple[Path, ...] = ()

    def resolved(self) -> RunPaths:
        """The same paths, absolute, so that another machine or folder finds them."""
        return RunPaths(self.runs.resolve(), self.cache.resolve(), tuple(path.resolve() for path in self.plugins))


@dataclass(frozen=True)
class Device:
    """The devices and threads that one worker may use."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    gpu: int = 0  # index of the first GPU
    threads: int = 1  # per process
    checkpoint_minutes: float = 5.0
    devices: int = 1  # processes that train a job together, one device each
    loaders: int = 0  # background threads per process that make batches ahead; 0: batches are made within the step
    steps_ahead: int | None = None  # batches made ahead at most; None: one more than loaders
    online: OnlineKnn | None = None  # measured during pretraining, for `suite tune`

    @property
    def kind(self) -> Literal["cpu", "cuda"]:
        """The accelerator that is used on this machine."""
        import torch

        return "cuda" if self.accelerator != "cpu" and torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class JobContext:
    """Everything a job needs besides its spec.

    Args:
        paths: result store, cache and plugins.
        device: devices and threads.
        should_stop: whether the job is to save and leave; called after every step or batch.
        report: receives each line of metrics.jsonl.
    """

    paths: RunPaths
    device: Device
    should_stop: Callable[[], bool] = lambda: False
    report: Callable[[dict[str, float]], None] = lambda _: None
