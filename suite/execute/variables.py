"""Environment variables of processes that run jobs. Libraries read them when they load."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def job_variables(threads: int, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables to set for a process that runs jobs.

    GOMP_SPINCOUNT=10000: by default OpenMP's idle threads spin for some milliseconds between two parallel regions, and
    keep the core from the process that they wait for. A job of two threads beside one busy process on two cores took
    over 285 s so, 81 s with this value and 55 s without spinning; on a quiet machine 32 s, 32 s and 43 s.
    PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True: otherwise a warm worker's GPU memory fragments from job to job.

    Args:
        threads: threads per process.
        given: the user's own environment, whose settings are kept; None: that of this process.
    """
    given = os.environ if given is None else given
    values = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & given.keys():
        values["GOMP_SPINCOUNT"] = "10000"
    if not {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"} & given.keys():
        values["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    return values


def use_job_variables(threads: int) -> None:
    """Set them for this process, as far as torch has not been loaded and will still read them."""
    if "torch" not in sys.modules:
        os.environ.update(job_variables(threads))
