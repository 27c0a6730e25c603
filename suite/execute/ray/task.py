"""The code of a Ray task: run one job of the store on whatever node Ray has chosen."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.worker import JobEnd
from suite.jobs.identity import Job
from suite.store.active import POLL_SECONDS
from suite.store.store import Store


class StopFlags:
    """Which jobs are to save and end. An actor: one process of the cluster, asked by every task."""

    def __init__(self) -> None:
        self._all = False
        self._keys: set[str] = set()

    def stop(self) -> None:
        """Stop all jobs."""
        self._all = True

    def leave(self, key: str) -> None:
        """Stop one job."""
        self._keys.add(key)

    def start(self, key: str) -> None:
        """A job starts; an earlier request to stop it is over."""
        self._keys.discard(key)

    def is_stopped(self, key: str) -> bool:
        """Whether the job is to stop."""
        return self._all or key in self._keys


def run_task(job: Job, paths: RunPaths, device: Device, flags: Any) -> JobEnd:
    """Run the job. If Ray has started it again after the death of a node, it resumes from its checkpoint.

    The dead process's claim is free at once on the same node, and after two minutes on another one: until then this
    task waits.

    Args:
        job: its parents are done.
        paths: on a disk that all nodes share.
        device: the GPUs are those that Ray has made visible, from index 0 on.
        flags: handle of the `StopFlags` actor.
    """
    from suite.execute.ddp.spawned import SpawnedRanks
    from suite.execute.worker import run_job
    from suite.plugin import load_plugins

    load_plugins(paths.plugins)
    stop = threading.Event()
    ended = threading.Event()
    threading.Thread(target=_poll_flags, args=(flags, job.key, stop, ended), daemon=True).start()
    try:
        while Store(paths.runs).status(job.key) == "running":
            if stop.wait(POLL_SECONDS):
                return JobEnd("interrupted", "another process worked on it")
        with closing(SpawnedRanks(device)) as ranks:
            return run_job(job, JobContext(paths, device, stop.is_set), ranks)
    finally:
        ended.set()


def _poll_flags(flags: Any, key: str, stop: threading.Event, ended: threading.Event) -> None:
    """Keep asking the driver whether the job is to stop."""
    import ray

    while not ended.wait(POLL_SECONDS):
        try:
            if ray.get(flags.is_stopped.remote(key), timeout=30):
                stop.set()
                return
        except ray.exceptions.RayError:  # the actor restarts; if the run has ended, Ray ends this process
            continue
