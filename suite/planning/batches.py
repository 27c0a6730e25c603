"""Whether batches fit the devices and the training images. Asked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from suite.errors import UsageError
from suite.jobs.identity import Job, JobSpec
from suite.kinds.base import Size
from suite.kinds.linear_sgd import LinearSgdSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import TrainingSpec
from suite.planning.forecast import Forecast


def refuse_uneven(jobs: Iterable[Job], devices: int) -> None:
    """Raise where `devices` cannot each have as many images of a batch, or as many groups of shuffle-BN, as the others.

    Raises:
        UsageError: one line per recipe, with what to type.
    """
    problems = _by_problem(jobs, lambda job: _uneven(job.spec, devices))
    if problems:
        raise UsageError("\n".join(f"{names}: {problem}" for names, problem in problems))


def large_batches(forecast: Forecast) -> list[str]:
    """Jobs that will fail because a batch has more images than the training split: a sentence per dataset and recipe.

    Jobs that are done are left out. Images that are held out of the split, and those without a label, are not counted.
    """

    def problem(job: Job) -> str | None:
        text = _larger_than_split(job.spec, forecast.sizes)
        # `remaining` is computed for the first problem only: it estimates every job.
        return text if text is not None and job.key in forecast.remaining else None

    return [f"{names} will fail: {text}" for names, text in _by_problem(forecast.jobs, problem)]


def _by_problem(jobs: Iterable[Job], problem_of: Callable[[Job], str | None]) -> list[tuple[str, str]]:
    """The names of the jobs that have each problem, shortened, and the problem."""
    problems: dict[str, list[str]] = {}
    for job in jobs:
        if (problem := problem_of(job)) is not None:
            problems.setdefault(problem, []).append(job.name)
    return [(_named(names), problem) for problem, names in problems.items()]


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
    splits = spec.shuffle_bn_groups if isinstance(spec, PretrainSpec) else None
    if splits is not None and (splits % devices or batch % splits):
        return (
            f"the batch of {batch} images is normalised in {splits} groups (bn_splits), of which {devices} "
            f"devices cannot have equally many and equally large ones. Use --devices 1, or --set "
            f"objective.bn_splits={devices} (another recipe, hence other jobs)."
        )
    return None


def _larger_than_split(spec: JobSpec, sizes: Mapping[str, Size]) -> str | None:
    if isinstance(spec, TrainingSpec):
        batch = spec.train.batch_size
    elif isinstance(spec, LinearSgdSpec):
        batch = spec.linear_sgd.batch_size
    else:
        return None
    images = sizes[spec.data.name].train
    if batch <= images:
        return None
    groups = (spec.shuffle_bn_groups if isinstance(spec, PretrainSpec) else None) or 1
    smaller = images // groups * groups
    advice = "Leave this dataset out with --dataset."
    if smaller >= 2 * groups:  # two images per group at least
        advice = (
            f"Use a smaller one, such as --set {spec.kind}.batch_size={smaller} (another recipe, hence other jobs), or "
            "leave this dataset out with --dataset."
        )
    return (
        f"a batch of {batch} images is larger than the training split of {spec.data.name}, which has {images}. {advice}"
    )
