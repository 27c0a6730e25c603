"""What `suite bench` measures: one job of every kind of training in a plan. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from suite.data.catalogue import DATASETS
from suite.data.decoded.setting import assumed_sizes, decodes_ahead, sampled_sizes
from suite.data.decoded.shape import resized_shape
from suite.data.spec import DataSpec
from suite.kinds.base import Size
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import TrainingSpec
from suite.planning.costs import Machine, rates, throughput_key
from suite.planning.forecast import Forecast
from suite.planning.plan import Plan


@dataclass(frozen=True)
class ImageSizes:
    """Sizes of a dataset's images, which random ones imitate."""

    shapes: tuple[tuple[int, int], ...]  # height and width, px, at the store's size
    decoded_ahead: bool  # before training; else a JPEG is decoded whenever an image is read


@dataclass(frozen=True)
class Case:
    """A job that stands for all that run at its speed (`throughput_key`)."""

    name: str  # "byol_cvsa"; "finetune"
    spec: TrainingSpec
    size: Size
    image_sizes: ImageSizes

    @property
    def batch_step(self) -> int:
        """Batches have to be multiples of it: twice the groups of shuffle-BN, or 2."""
        groups = self.spec.shuffle_bn_groups if isinstance(self.spec, PretrainSpec) else None
        return 2 * (groups or 1)

    def with_train(self, **changes: object) -> Case:
        """The same job with other settings of its stage, such as batch_size or precision."""
        train = self.spec.train.model_copy(update=changes)
        return Case(self.name, self.spec.model_copy(update={"train": train}), self.size, self.image_sizes)


def cases_of(forecast: Forecast) -> list[Case]:
    """One case per speed: pretraining in the plan's order, then fine-tuning.

    Of the datasets with the same speed, one that is decoded on demand comes first: its loaders have more to do.
    """
    plan, chosen = forecast.plan, dict[str, Case]()
    image_sizes: dict[DataSpec, ImageSizes] = {}
    for job in forecast.jobs:
        spec = job.spec
        if not isinstance(spec, TrainingSpec):
            continue
        if spec.data not in image_sizes:
            image_sizes[spec.data] = _image_sizes(plan, spec.data, forecast.sizes[spec.data.name])
        kind, row, *_ = job.name.split()
        name = row if isinstance(spec, PretrainSpec) else kind
        case = Case(name, spec, forecast.sizes[spec.data.name], image_sizes[spec.data])
        previous = chosen.get(throughput_key(spec))
        if previous is None or (previous.image_sizes.decoded_ahead and not case.image_sizes.decoded_ahead):
            chosen[throughput_key(spec)] = case
    ordered = sorted(chosen.values(), key=lambda case: not isinstance(case.spec, PretrainSpec))
    return list(_with_distinct_names(ordered))


def batch_within(case: Case, machine: Machine, seconds: float) -> int:
    """The recipe's batch, or on a CPU one whose step is expected to take `seconds` at most: halved as often as needed,
    not below `batch_step`."""
    batch = case.spec.train.batch_size
    if machine.device == "cuda":
        return batch
    from suite.kinds.registry import kind_of

    per_image = kind_of(case.spec).macs(case.spec) / (rates().cpu_thread * machine.threads)
    while batch * per_image > seconds and batch % 2 == 0 and batch // 2 % case.batch_step == 0:
        batch //= 2
    return batch


def _image_sizes(plan: Plan, data: DataSpec, size: Size) -> ImageSizes:
    dataset = plan.datasets.get(data.name)
    if dataset is None:
        images = assumed_sizes(size.train + size.test, data.store_size)
    else:
        images = sampled_sizes(dataset, data.fingerprint, plan.workspace.cache)
    shapes = tuple(resized_shape(height, width, data.store_size) for height, width in images.sample)
    ahead = decodes_ahead(DATASETS[data.name].labelled, images.decoded_bytes(data.store_size))
    return ImageSizes(shapes or ((data.store_size, data.store_size),), ahead)


def _with_distinct_names(cases: Iterable[Case]) -> Iterable[Case]:
    """`finetune` may stand for several backbones or batch sizes; the later ones are numbered."""
    seen: dict[str, int] = {}
    for case in cases:
        count = seen[case.name] = seen.get(case.name, 0) + 1
        yield case if count == 1 else Case(f"{case.name}#{count}", case.spec, case.size, case.image_sizes)
