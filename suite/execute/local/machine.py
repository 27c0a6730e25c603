"""What this machine offers to a run, without loading torch."""

from __future__ import annotations

import glob
import os
from typing import Literal

from suite.cores import cores
from suite.planning.costs import Machine


def default_workers(devices: int = 1) -> int:
    """One per `devices` visible GPUs; on a CPU as many as keep up to four cores busy, since small jobs side by side
    beat one with threads."""
    return max(1, (gpu_count() or min(4, cores())) // devices)


def gpu_count() -> int:
    """Visible NVIDIA GPUs, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in {"", "-1"}])
    return len(glob.glob("/dev/nvidia[0-9]*"))  # noqa: PTH207


def machine(workers: int | None = None, devices: int = 1) -> Machine:
    """What this machine offers to a run, without loading torch."""
    count = workers or default_workers(devices)
    kind: Literal["cpu", "cuda"] = "cuda" if gpu_count() else "cpu"
    return Machine(kind, count, max(1, cores() // (count * devices)), devices)
