"""Whether the devices that train a job together can share its batches evenly. Asked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable

from suite.errors import UsageError
from suite.jobs.identity import Job, JobSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import TrainingSpec


def refuse_uneven(jobs: Iterable[Job], devices: int) -> None:
    """Raise where `devices` cannot each have as many images of a batch, or as many groups of shuffle-BN, as the others.

    Raises:
        UsageError: one line per recipe, with what to type.
    """
    problems: dict[str, list[str]] = {}
    for job in jobs:
        if (problem := _uneven(job.spec, devices)) is not None:
            problems.setdefault(problem, []).append(job.name)
    if problems:
        lines = (f"{_named(names)}: {problem}" for problem, names in problems.items())
        raise UsageError("\n".join(lines))


def _named(jobs: list[str]) -> str:
    return jobs[0] if len(jobs) == 1 else f"{jobs[0]} and {len(jobs) - 1} more"


def _uneven(spec: JobSpec, devices: int) -> str | None:
    if not isinstance(spec, TrainingSpec) or devices == 1:
        return None
    batch = spec.train.batch_size
    fitting = [str(number) for number in range(1, devices) if batch % number == 0]
    if batch % devices:
        return (
            f"a batch of {batch} images cannot be shared evenly by {devices} devices. Use --devices "
            f"{' or '.join(fitting)}, or --set {spec.kind}.batch_size={(batch // devices + 1) * devices} (another "
            "recipe, hence other jobs)."
        )
    splits = getattr(spec.objective.args, "bn_splits", None) if isinstance(spec, PretrainSpec) else None
    if splits is not None and (splits % devices or batch % splits):
        return (
            f"the batch of {batch} images is normalised in {splits} groups (bn_splits), of which {devices} "
            f"devices cannot have equally many and equally large ones. Use --devices 1, or --set "
            f"objective.bn_splits={devices} (another recipe, hence other jobs)."
        )
    return None
