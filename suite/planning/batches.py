"""Whether batches fit the training images and the devices. Checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from suite.errors import UsageError
from suite.jobs.identity import Job, JobSpec
from suite.kinds.base import Size
from suite.kinds.linear_sgd import LinearSgdSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import TrainingSpec


def refuse_uneven(jobs: Iterable[Job], devices: int) -> None:
    """Raise where `devices` cannot each have as many images of a batch, or as many groups of shuffle-BN, as the others.

    Raises:
        UsageError: one line per recipe, with what to type.
    """
    _refuse(jobs, lambda spec: _uneven(spec, devices))


def refuse_large(jobs: Iterable[Job], sizes: Mapping[str, Size]) -> None:
    """Raise where a batch has more images than the training split. What is held out of the split is not counted.

    Args:
        jobs: planned ones.
        sizes: of the datasets, by name.

    Raises:
        UsageError: one line per recipe and dataset, with what to type.
    """
    _refuse(jobs, lambda spec: _large(spec, sizes))


def _refuse(jobs: Iterable[Job], problem_of: Callable[[JobSpec], str | None]) -> None:
    problems: dict[str, list[str]] = {}
    for job in jobs:
        if (problem := problem_of(job.spec)) is not None:
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


def _large(spec: JobSpec, sizes: Mapping[str, Size]) -> str | None:
    if isinstance(spec, TrainingSpec):
        batch = spec.train.batch_size
    elif isinstance(spec, LinearSgdSpec):
        batch = spec.linear_sgd.batch_size
    else:
        return None
    images = sizes[spec.data.name].train
    if batch <= images:
        return None
    return (
        f"a batch of {batch} images is larger than the training split of {spec.data.name}, which has {images} images. "
        f"Use a smaller one, such as --set {spec.kind}.batch_size={images} (another recipe, hence other jobs), or "
        "leave this dataset out with --dataset."
    )
