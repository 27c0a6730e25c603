"""A custom protocol: nearest class mean on frozen features.

The mean feature of each class's training images stands for the class; a test image gets the class of the nearest mean
(Mensink et al. 2013, doi:10.1109/TPAMI.2013.83, with their Euclidean distance on features as they are, without a learnt
metric). Nothing is fitted, so the number says how well classes separate before any training on labels. Pooled features
of central crops.

    suite run --grid paper_table1 --profile demo --dataset cub --plugin examples/nearest_mean_protocol.py
"""

from __future__ import annotations

import time
from typing import Any, Literal

from pydantic import Field

from suite.jobs.identity import Job
from suite.jobs.sections import Section
from suite.kinds.base import Heading, MeasuredCell, Protocol, ProtocolSpec, Size, macs
from suite.plugin import register_protocol


class NearestMeanArgs(Section):
    """Settings, as a recipe has them under `protocols.nearest_mean`."""

    eval_resize: float = Field(ge=1, description="short side before the central crop, over the crop's side")
    distance: Literal["euclidean", "cosine"] = Field(
        "euclidean", description="between a test feature and the class means; cosine: both scaled to length 1"
    )


class NearestMeanSpec(ProtocolSpec):
    """What determines the result."""

    kind: Literal["nearest_mean"] = "nearest_mean"
    version: int = 2
    nearest_mean: NearestMeanArgs


class NearestMean(Protocol[NearestMeanSpec]):
    """What the suite asks of the protocol."""

    name = "nearest_mean"
    spec = NearestMeanSpec
    args = NearestMeanArgs
    loop = f"{__name__}:run"
    title = "Nearest class mean on frozen features"
    headings = (Heading("top1", "Top-1"), Heading("top5", "Top-5"))
    note = "In percent: a test image gets the class whose training images have the nearest mean feature."

    def job(self, args: NearestMeanArgs, cell: MeasuredCell) -> Job:
        """One pass over both splits with the pretrained backbone."""
        spec = NearestMeanSpec(nearest_mean=args, init=cell.init, **cell.shared)
        return Job(spec, f"nearest_mean {cell.name}", cell.parents())

    def images(self, spec: NearestMeanSpec, size: Size) -> int:
        """Every image once."""
        return size.train + size.test

    def macs(self, spec: NearestMeanSpec) -> float:
        """A forward pass."""
        return macs(spec.backbone, spec.image_size)


def run(spec: NearestMeanSpec, inputs: Any, session: Any) -> Any:
    """Measure the backbone that the job names. Loaded by the worker, so torch may be imported here."""
    from contextlib import closing

    from torch.nn.functional import normalize

    from suite.training.evaluation import centre_crops
    from suite.training.features import features
    from suite.training.networks import frozen_backbone
    from suite.training.outcome import Outcome

    began, device = time.monotonic(), session.fabric.device
    train, test = inputs.split("train"), inputs.split("test")
    backbone = frozen_backbone(spec, inputs.backbone(spec.init), device)
    side, resize = spec.image_size, spec.nearest_mean.eval_resize
    pooled = []
    for source in (train, test):
        with closing(centre_crops(source, side, resize, session.loading, session.raise_if_stopped)) as crops:
            vectors = features(backbone, crops, device).cpu()
        pooled.append(normalize(vectors, dim=1) if spec.nearest_mean.distance == "cosine" else vectors)
    cosine = spec.nearest_mean.distance == "cosine"
    metrics = nearest_mean(pooled[0], train.labels, pooled[1], test.labels, unit_means=cosine)
    counts = {"n_train": len(train), "n_test": len(test)}
    return Outcome(metrics, images=len(train) + len(test), seconds=time.monotonic() - began, counts=counts)


def nearest_mean(train: Any, labels: Any, test: Any, test_labels: Any, unit_means: bool = False) -> dict[str, float]:
    """Top-1 and top-5 in percent.

    Args:
        train: features float32 [N, D].
        labels: int64 [N]; every class 0 .. C - 1 occurs.
        test: features float32 [M, D].
        test_labels: int64 [M].
        unit_means: scale the means to length 1; of unit features the nearest is then the one of the highest cosine.
    """
    import torch
    from torch.nn.functional import normalize

    sums = torch.zeros(int(labels.max()) + 1, train.shape[1], dtype=torch.float64)
    means = sums.index_add_(0, labels, train.double()) / labels.bincount()[:, None]
    means = normalize(means, dim=1) if unit_means else means
    nearest = torch.cdist(test.double(), means).argsort(dim=1, stable=True)
    hits = nearest == test_labels[:, None]
    return {f"top{k}": 100 * float(hits[:, :k].any(dim=1).double().mean()) for k in (1, 5)}


register_protocol(NearestMean(), recipe={"eval_resize": 1.0})
