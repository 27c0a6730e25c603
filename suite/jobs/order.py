"""In which order ready jobs start: the one that heads the longest path of work goes first."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from suite.jobs.identity import Job


def children_of(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Who waits for whom: the jobs among `jobs` by the key of each of their parents."""
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


class Ready:
    """Jobs whose parents are done, longest path first; of equal ones, in the order of the plan."""

    def __init__(self, jobs: Sequence[Job], seconds: Mapping[str, float]) -> None:
        self._seconds = seconds
        self._paths: dict[str, float] = {}
        self._place: dict[str, int] = {}
        self._children: dict[str, list[Job]] = {}
        self._waits: dict[str, int] = {}
        self._heap: list[tuple[float, int, Job]] = []
        self._done: set[str] = set()
        self._closed = False
        self.add(jobs)

    def add(self, jobs: Sequence[Job]) -> None:
        """Put further jobs in, parents before children; those that are in already are left alone."""
        new = [job for job in jobs if job.key not in self._place]
        self._paths |= longest_paths(new, self._seconds)
        first = 1 + max(self._place.values(), default=-1)
        self._place |= {job.key: first + place for place, job in enumerate(new)}
        for job in new:
            self._children.setdefault(job.key, [])
            awaited = {parent.key for parent in job.parents if parent.key in self._place} - self._done
            for parent in awaited:
                self._children[parent].append(job)
            self._waits[job.key] = len(awaited)
            if not awaited:
                self.push(job)

    def forget(self, job: Job) -> None:
        """A job that was taken out, is not done and is not wanted any more; it may be added again."""
        del self._place[job.key]

    def push(self, job: Job) -> None:
        """Put a job in, or back."""
        if self._closed:
            return
        heapq.heappush(self._heap, (-self._paths[job.key], self._place[job.key], job))

    def pop(self) -> Job | None:
        """Take the next job out."""
        return heapq.heappop(self._heap)[2] if self._heap else None

    def done(self, job: Job) -> None:
        """Its children may start, as far as they wait for nothing else."""
        self._done.add(job.key)
        for child in self._children[job.key]:
            self._waits[child.key] -= 1
            if not self._waits[child.key]:
                self.push(child)

    def descendants(self, job: Job) -> list[Job]:
        """Everything that cannot start without `job`, parents before children."""
        found: dict[str, Job] = {}
        stack = [job]
        while stack:
            for child in self._children[stack.pop().key]:
                if child.key not in found and child.key in self._place:  # not forgotten
                    found[child.key] = child
                    stack.append(child)
        return sorted(found.values(), key=lambda child: self._place[child.key])

    def close(self) -> None:
        """Nothing more is to start."""
        self._closed = True
        self._heap.clear()

    def __bool__(self) -> bool:
        return bool(self._heap)
