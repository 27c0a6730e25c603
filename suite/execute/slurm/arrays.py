"""Which jobs go to Slurm as one array. Pure functions over the job graph.

All tasks of an array have the same resources and one dependency, which comes in two shapes: every task waits for the
same jobs (`afterok`), or task i waits for task i of other arrays (`aftercorr`). So the pretrainings of ten rows are one
array, and the ten fine-tunings behind them another, each of which starts when its own pretraining is done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from suite.jobs.identity import Job
from suite.jobs.order import children_of, longest_paths

R = TypeVar("R", bound=Hashable)
TaskPosition = tuple[int, int]  # of a job: which array, which task


@dataclass(frozen=True)
class Array(Generic[R]):
    """Jobs to submit at once, and what they wait for."""

    jobs: tuple[Job, ...]
    request: R
    afterok: tuple[str, ...] = ()  # keys of the jobs that every task waits for
    aftercorr: tuple[int, ...] = ()  # indices of the arrays whose task i the task i waits for


def into_arrays(
    jobs: Sequence[Job],
    requests: Mapping[str, R],
    seconds: Mapping[str, float],
    queued: Collection[str] = (),
    largest: int = 1000,
) -> list[Array[R]]:
    """Group `jobs` into arrays, parents before children, the heads of the longest paths first.

    Args:
        jobs: parents before children. Parents that are neither here nor in `queued` are done.
        requests: per key, what the job asks Slurm for; only equal ones share an array.
        seconds: expected duration per key.
        queued: keys of jobs that Slurm has already.
        largest: most tasks in one array.
    """
    undone = {job.key for job in jobs} | set(queued)
    parents = {job.key: tuple(sorted({parent.key for parent in job.parents} & undone)) for job in jobs}
    group_numbers, paths = _group_numbers(jobs, requests), longest_paths(jobs, seconds)
    arrays: list[Array[R]] = []
    positions: dict[str, TaskPosition] = {}
    for level in _levels(jobs, parents):
        groups: dict[Hashable, list[Job]] = defaultdict(list)
        for job in sorted(level, key=lambda job: -paths[job.key]):
            groups[group_numbers[job.key]].append(job)
        for group in groups.values():
            for array in _split(group, requests[group[0].key], parents, positions, arrays, largest):
                positions |= {job.key: (len(arrays), task) for task, job in enumerate(array.jobs)}
                arrays.append(array)
    return arrays


def _group_numbers(jobs: Sequence[Job], requests: Mapping[str, R]) -> dict[str, int]:
    """A number per job, equal for jobs that ask for the same and behind which the same shape of jobs waits: those
    behind them then fill an array of the same length."""
    numbers: dict[Hashable, int] = {}
    children, shapes = children_of(jobs), dict[str, int]()
    for job in reversed(jobs):
        shape = requests[job.key], tuple(sorted(shapes[child.key] for child in children[job.key]))
        shapes[job.key] = numbers.setdefault(shape, len(numbers))
    return shapes


def _levels(jobs: Sequence[Job], parents: Mapping[str, tuple[str, ...]]) -> list[list[Job]]:
    """Jobs by the number of jobs in the longest chain before them."""
    depth: dict[str, int] = {}
    levels: dict[int, list[Job]] = defaultdict(list)
    for job in jobs:
        depth[job.key] = 1 + max((depth.get(parent, -1) for parent in parents[job.key]), default=-1)
        levels[depth[job.key]].append(job)
    return [levels[number] for number in sorted(levels)]


def _split(
    group: Sequence[Job],
    request: R,
    parents: Mapping[str, tuple[str, ...]],
    positions: Mapping[str, TaskPosition],
    arrays: Sequence[Array[R]],
    largest: int,
) -> list[Array[R]]:
    """A group in as few arrays as its dependencies allow."""
    by_parents: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    for job in group:
        by_parents[parents[job.key]].append(job)
    by_common_parents = [
        Array(tuple(members[start : start + largest]), request, afterok=waited_for)
        for waited_for, members in by_parents.items()
        for start in range(0, len(members), largest)
    ]
    aligned = _aligned(group, request, parents, positions, arrays)
    return by_common_parents if aligned is None or len(by_common_parents) <= len(aligned) else aligned


def _aligned(
    group: Sequence[Job],
    request: R,
    parents: Mapping[str, tuple[str, ...]],
    positions: Mapping[str, TaskPosition],
    arrays: Sequence[Array[R]],
) -> list[Array[R]] | None:
    """Arrays in which task i waits for task i of the parents' arrays; None where the group is not made like that."""
    siblings: Counter[tuple[str, ...]] = Counter()
    groups: dict[tuple[tuple[int, ...], int], dict[int, Job]] = defaultdict(dict)  # arrays, sibling -> task -> job
    for job in group:
        waits = parents[job.key]
        parent_positions = [positions[parent] for parent in waits if parent in positions]
        tasks = {task for _, task in parent_positions}
        if len(parent_positions) < len(waits) or len(tasks) != 1:
            return None
        groups[tuple(sorted(array for array, _ in parent_positions)), siblings[waits]][tasks.pop()] = job
        siblings[waits] += 1
    aligned = []
    for (waited_for, _), jobs in groups.items():
        if {len(arrays[index].jobs) for index in waited_for} != {len(jobs)}:
            return None
        ordered = tuple(jobs[task] for task in sorted(jobs))
        if len(ordered) == 1:  # no array, so it has no tasks to correspond to
            aligned.append(Array(ordered, request, afterok=parents[ordered[0].key]))
        else:
            aligned.append(Array(ordered, request, aftercorr=waited_for))
    return aligned
