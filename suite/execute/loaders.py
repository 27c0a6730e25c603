"""How many background loaders the processes of a run get."""

from __future__ import annotations

import os

from suite.cores import cores
from suite.errors import UsageError
from suite.planning.costs import Machine

_MOST = 16  # per GPU: more than any objective of the paper needs at 224 px


def default_loaders(machine: Machine, available: int | None = None) -> int:
    """Background loaders per process.

    With GPUs: an equal share of the cores, less one core per process that launches the GPU's work; 1 to 16.
    On a CPU: 1. Training itself keeps the cores busy, so that further ones would take them from it; one hides reading
    and decoding, and costs no time where there is nothing to hide (docs/throughput.md has the measurement).

    Args:
        machine: workers and devices of the run.
        available: cores; None: those that this process may use.
    """
    if machine.device == "cpu":
        return 1
    processes = machine.workers * machine.devices
    return min(_MOST, max(1, (available or cores()) // processes - 1))


def torch_threads(accelerator: str, loaders: int, threads: int) -> int:
    """Threads of torch's operations on the CPU in a process that may use `threads` cores.

    Beside a GPU the loaders are the threads: with one OpenMP team per loader they would wait for each other. On an H100
    machine with 16 cores, 15 loaders with 16 threads each made no more images than four (docs/throughput.md).
    """
    return 1 if accelerator == "cuda" and loaders else threads


def steps_ahead() -> int | None:
    """Batches made ahead at most: $SUITE_STEPS_AHEAD; None where it is not set: one more than loaders."""
    text = os.environ.get("SUITE_STEPS_AHEAD")
    if text is None:
        return None
    if not text.isdecimal() or not int(text):
        raise UsageError(f"SUITE_STEPS_AHEAD expects a number of batches such as 4, got '{text}'.")
    return int(text)
