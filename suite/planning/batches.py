"""Whether batches fit the training images: what a run warns of before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from suite.jobs.identity import Job, JobSpec
from suite.kinds.base import Size
from suite.kinds.linear_sgd import LinearSgdSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import TrainingSpec


def large_batches(jobs: Iterable[Job], sizes: Mapping[str, Size]) -> list[str]:
    """One sentence per dataset and recipe whose batch has more images than the training split: such jobs will fail.

    Images that are held out of the split, and those without a label, are not counted.

    Args:
        jobs: planned ones.
        sizes: of the datasets, by name.
    """
    problems: dict[str, list[str]] = {}
    for job in jobs:
        if (problem := _problem(job.spec, sizes)) is not None:
            problems.setdefault(problem, []).append(job.name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''} will fail: {problem}"
        for problem, names in problems.items()
    ]


def _problem(spec: JobSpec, sizes: Mapping[str, Size]) -> str | None:
    if isinstance(spec, TrainingSpec):
        batch = spec.train.batch_size
    elif isinstance(spec, LinearSgdSpec):
        batch = spec.linear_sgd.batch_size
    else:
        return None
    images = sizes[spec.data.name].train
    if batch <= images:
        return None
    groups = getattr(spec.objective.args, "bn_splits", None) if isinstance(spec, PretrainSpec) else None
    smaller = images // (groups or 1) * (groups or 1)
    return (
        f"a batch of {batch} images is larger than the training split of {spec.data.name}, which has {images}. Use a "
        f"smaller one, such as --set {spec.kind}.batch_size={smaller} (another recipe, hence other jobs), or leave "
        "this dataset out with --dataset."
    )
