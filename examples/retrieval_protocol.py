"""A protocol of one's own: retrieval on frozen features, as fine-grained self-supervised papers report it.

Every test image asks for the most similar other test images, by the cosine of pooled features of central crops.
Rank-k: share of images with an image of their class among the k nearest, percent. mAP: mean over images of the average
precision of the whole ranking, percent (Manning et al. 2008, Introduction to Information Retrieval, section 8.4). An
image without another of its class is left out. Reported so by LCR (arXiv:2303.01669), which ranks by dot product.

    suite run --grid paper_table1 --profile demo --method random --dataset cub --plugin examples/retrieval_protocol.py
"""

from __future__ import annotations

import time
from typing import Any, Literal

from pydantic import Field

from suite.jobs.identity import Job
from suite.jobs.sections import Section
from suite.kinds.base import Heading, MeasuredCell, Protocol, ProtocolSpec, Size, macs
from suite.plugin import register_protocol


class RetrievalArgs(Section):
    """Settings, as a recipe has them under `protocols.retrieval`."""

    eval_resize: float = Field(ge=1, description="short side before the central crop, over the crop's side")
    similarity: Literal["cosine", "dot"] = "cosine"


class RetrievalSpec(ProtocolSpec):
    """What determines the result."""

    kind: Literal["retrieval"] = "retrieval"
    version: int = 1
    retrieval: RetrievalArgs


class Retrieval(Protocol[RetrievalSpec]):
    """What the suite asks of the protocol."""

    name = "retrieval"
    spec = RetrievalSpec
    args = RetrievalArgs
    loop = f"{__name__}:run"
    title = "Retrieval on frozen features"
    headings = (Heading("rank1", "Rank-1"), Heading("rank5", "Rank-5"), Heading("map", "mAP"))
    note = "In percent: each test image asks for the others by the similarity of frozen features (cosine by default)."

    def job(self, args: RetrievalArgs, cell: MeasuredCell) -> Job:
        """One pass over the test images with the pretrained backbone."""
        spec = RetrievalSpec(retrieval=args, init=cell.init, **cell.shared)
        return Job(spec, f"retrieval {cell.name}", cell.parents())

    def images(self, spec: RetrievalSpec, size: Size) -> int:
        """Every test image once."""
        return size.test

    def macs(self, spec: RetrievalSpec) -> float:
        """A forward pass."""
        return macs(spec.backbone, spec.image_size)


def run(spec: RetrievalSpec, inputs: Any, session: Any) -> Any:
    """Measure the backbone that the job names. Loaded by the worker, so torch may be imported here."""
    from contextlib import closing

    from torch.nn.functional import normalize

    from suite.training.evaluation import centre_crops
    from suite.training.features import features
    from suite.training.networks import frozen_backbone
    from suite.training.outcome import Outcome

    began, device = time.monotonic(), session.fabric.device
    test = inputs.split("test")
    backbone = frozen_backbone(spec, inputs.backbone(spec.init), device)
    side, resize = spec.image_size, spec.retrieval.eval_resize
    with closing(centre_crops(test, side, resize, session.loading, session.raise_if_stopped)) as crops:
        vectors = features(backbone, crops, device)
    if spec.retrieval.similarity == "cosine":
        vectors = normalize(vectors, dim=1)
    metrics, asked = retrieval(vectors.cpu(), test.labels)
    return Outcome(metrics, images=len(test), seconds=time.monotonic() - began, counts={"n_test": asked})


def retrieval(vectors: Any, labels: Any) -> tuple[dict[str, float], int]:
    """Rank-1, Rank-5 and mAP in percent, and the number of images that ask.

    Args:
        vectors: float32 [N, D]; compared by dot product.
        labels: int64 [N].
    """
    import torch

    similarity = vectors @ vectors.T
    similarity.fill_diagonal_(-torch.inf)  # no image finds itself; it comes last
    order = similarity.argsort(dim=1, descending=True, stable=True)[:, :-1]
    hits = (labels[order] == labels[:, None]).double()  # [N, N - 1]
    hits = hits[hits.any(dim=1)]
    precision = hits.cumsum(dim=1) / torch.arange(1, hits.shape[1] + 1)
    scores = {
        "rank1": hits[:, :1].amax(dim=1),
        "rank5": hits[:, :5].amax(dim=1),
        "map": (precision * hits).sum(dim=1) / hits.sum(dim=1),
    }
    return {name: 100 * float(score.mean()) for name, score in scores.items()}, len(hits)


register_protocol(Retrieval(), recipe={"eval_resize": 1.0})
