"""How many processor cores there are to use."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores this process may run on: Slurm, containers and taskset often grant fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
