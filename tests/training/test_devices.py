"""A job trained by two processes is the job trained by one; it survives what happens to one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from suite.execute.members import Members
from suite.execute.worker import Device, run_job
from suite.grid.jobs import Job
from suite.training.checkpoint import load_state

from .test_resume import Runs, assert_equal, assert_same

# Largest differences of one process and two, over all weights and metrics, after everything a cell trains. Double
# precision shows that the arithmetic is the same; single precision adds what rounding makes of it in 12 steps.
TOLERANCE = {"64-true": 1e-9, "32-true": 2e-3}
TWO = Device(accelerator="cpu", threads=1, devices=2)


@contextmanager
def pair(runs: Runs) -> Iterator[Members]:
    with closing(Members(TWO)) as members:
        yield members


def train(runs: Runs, job: Job, members: Members | None, stop_after: int | None = None) -> tuple[str, str]:
    """The job by this process and `members`, or by this process alone."""
    polls = 0

    def should_stop() -> bool:
        nonlocal polls
        polls += 1
        return stop_after is not None and polls > stop_after

    device = replace(TWO, devices=1) if members is None else TWO
    return run_job(job, runs.places, device, should_stop, lambda _: None, members)


def precisely(job: Job, precision: str, parents: dict[str, str]) -> Job:
    """The job, and what it starts from, in that precision."""
    spec = job.spec
    changed = {}
    if hasattr(spec, "train"):
        changed["train"] = spec.train.model_copy(update={"precision": precision})
    if getattr(spec, "init", None) is not None:
        changed["init"] = parents[spec.init]
    new = Job(spec.model_copy(update=changed), job.name)
    parents[job.key] = new.key
    return new
