"""The order in which ready jobs start: the job at the head of the longest path of work first."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from suite.jobs.identity import Job


def children_of(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Per key of a parent, the jobs among `jobs` that wait for it."""
    children: dict[str, list[Job]] = {job.key: [] for job in jobs}
    for job in jobs:
        for parent in {parent.key for parent in job.parents}:
            if parent in children:
                children[parent].append(job)
    return children


def longest_paths(jobs: Sequence[Job], seconds: Mapping[str, float]) -> dict[str, float]:
    """Per key, the seconds from a job's start to the end of the longest chain of jobs behind it, itself included.

    Args:
        jobs: parents before children.
        seconds: expected duration per key; 1 for a job that is not in it.
    """
    children = children_of(jobs)
    paths: dict[str, float] = {}
    for job in reversed(jobs):
        behind = max((paths[child.key] for child in children[job.key]), default=0.0)
        paths[job.key] = seconds.get(job.key, 1.0) + behind
    return paths


class ReadyJobs:
    """Jobs whose parents are done, longest path first; jobs with equal paths in the order of the plan."""

    def __init__(self, jobs: Sequence[Job], seconds: Mapping[str, float]) -> None:
        self._seconds = seconds
        self._paths: dict[str, float] = {}
        self._position: dict[str, int] = {}
        self._children: dict[str, list[Job]] = {}
        self._waits: dict[str, int] = {}
        self._heap: list[tuple[float, int, Job]] = []
        self._done: set[str] = set()
        self._closed = False
        self.add(jobs)

    def add(self, jobs: Sequence[Job]) -> None:
        """Add jobs, parents before children. Jobs that were added before are left as they are."""
        new = [job for job in jobs if job.key not in self._position]
        self._paths |= longest_paths(new, self._seconds)
        first = 1 + max(self._position.values(), default=-1)
        self._position |= {job.key: first + index for index, job in enumerate(new)}
        for job in new:
            self._children.setdefault(job.key, [])
            awaited = {parent.key for parent in job.parents if parent.key in self._position} - self._done
            for parent in awaited:
                self._children[parent].append(job)
            self._waits[job.key] = len(awaited)
            if not awaited:
                self.push(job)

    def forget(self, job: Job) -> None:
        """Remove a job that was popped, is not done and is no longer wanted. It may be added again."""
        del self._position[job.key]

    def push(self, job: Job) -> None:
        """Make a job available, or available again."""
        if self._closed:
            return
        heapq.heappush(self._heap, (-self._paths[job.key], self._position[job.key], job))

    def pop(self) -> Job | None:
        """Remove and return the next job; None where no job is ready."""
        return heapq.heappop(self._heap)[2] if self._heap else None

    def mark_done(self, job: Job) -> None:
        """Record that a job is done. Children that wait for no other job become ready."""
        self._done.add(job.key)
        for child in self._children[job.key]:
            self._waits[child.key] -= 1
            if not self._waits[child.key]:
                self.push(child)

    def descendants(self, job: Job) -> list[Job]:
        """The jobs that cannot start without `job`, parents before children."""
        descendants: dict[str, Job] = {}
        stack = [job]
        while stack:
            for child in self._children[stack.pop().key]:
                if child.key not in descendants and child.key in self._position:  # not forgotten
                    descendants[child.key] = child
                    stack.append(child)
        return sorted(descendants.values(), key=lambda child: self._position[child.key])

    def close(self) -> None:
        """Start no further job."""
        self._closed = True
        self._heap.clear()

    def __bool__(self) -> bool:
        return bool(self._heap)
