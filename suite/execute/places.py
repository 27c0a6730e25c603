"""Folders and device of a worker; neither is part of a job's identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from suite.training.online import OnlineKnn


@dataclass(frozen=True)
class Places:
    """Where things are on this machine; never part of a job's identity."""

    runs: Path
    cache: Path
    plugins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Device:
    """What one worker may use."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    gpu: int = 0  # index of the first, where the accelerator is a GPU
    threads: int = 1  # per process
    checkpoint_minutes: float = 5.0
    devices: int = 1  # processes that train a job together, one device each
    online: OnlineKnn | None = None  # measured beside pretraining, for `suite tune`

    @property
    def kind(self) -> Literal["cpu", "cuda"]:
        """What it comes down to on this machine."""
        import torch

        return "cuda" if self.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
