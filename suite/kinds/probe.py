"""Frozen-feature probes: k nearest neighbours, a linear classifier and retrieval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from suite.jobs.identity import HeldOut, Job
from suite.jobs.sections import Section
from suite.kinds.base import DataJobSpec, MeasuredCell, Number, Protocol, Size, macs

PROBE_VERSION = 1


class KnnArgs(Section):
    """Weighted nearest neighbours on frozen features (Wu et al. 2018, arXiv:1805.01978, section 3.4)."""

    k: int = Field(ge=1, description="neighbours")
    temperature: float = Field(gt=0, description="T of the weight exp(cosine / T)")


class LinearArgs(Section):
    """Multinomial logistic regression on frozen features (Kornblith et al. 2019, arXiv:1805.08974, and SimCLR,
    arXiv:2002.05709, appendix B.8.1)."""

    weakest: float = Field(gt=0, description="L2 penalty to try")
    strongest: float = Field(gt=0, description="L2 penalty to try")
    strengths: int = Field(ge=2, description="how many to try, evenly spaced on a logarithmic scale")
    held_out: float = Field(gt=0, lt=1, description="share of every class of the training split to choose on")
    iterations: int = Field(ge=1, description="of L-BFGS at most, per strength")

    @model_validator(mode="after")
    def _consistent(self) -> LinearArgs:
        if self.weakest >= self.strongest:
            raise ValueError(f"expected weakest below strongest, found {self.weakest} and {self.strongest}")
        return self


class ProbeArgs(Section):
    """kNN, linear probe and retrieval on the frozen backbone. Features of central crops, as in the test of fine-tuning.

    `retrieval` is omitted from the key if it is null: keys of probes from before the field existed stay valid.
    """

    eval_resize: float = Field(ge=1, description="short side before the central crop, over the crop's side")
    knn: KnnArgs | None
    linear: LinearArgs | None
    retrieval: Literal["cosine", "dot"] | None = Field(
        None,
        description="similarity by which test images are ranked for each other: cosine, or dot as in LCR "
        "(arXiv:2303.01669); null: no retrieval",
    )

    @model_serializer(mode="wrap")
    def _leave_out_no_retrieval(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return values if self.retrieval else {name: value for name, value in values.items() if name != "retrieval"}


class ProbeSpec(HeldOut, DataJobSpec):
    """Nearest neighbours, a linear classifier and retrieval on the frozen backbone, measured on the test split or, as
    in fine-tuning, on a held-out part of the training split."""

    kind: Literal["probe"] = "probe"
    version: int = PROBE_VERSION
    probe: ProbeArgs
    init: str | None  # None: the random initialisation that fine-tuning would start from


class Probe(Protocol[ProbeSpec]):
    """Top-1 of a kNN and of a linear classifier on frozen features, and retrieval with the same features."""

    name = "probe"
    spec = ProbeSpec
    loop = "suite.training.probe:run"
    args = ProbeArgs

    def job(self, args: ProbeArgs, cell: MeasuredCell) -> Job:
        """A pass over both splits with the pretrained backbone."""
        spec = ProbeSpec(probe=args, init=cell.init, **cell.shared)
        return Job(spec, f"probe {cell.name}", cell.parents())

    def images(self, spec: ProbeSpec, size: Size) -> int:
        """Every image once."""
        return size.train + size.test

    def macs(self, spec: ProbeSpec) -> float:
        """A forward pass."""
        return macs(spec.backbone, spec.image_size)

    def numbers(self, metrics: Mapping[str, float]) -> Iterator[Number]:
        """Three protocols in results.csv: knn, linear and retrieval."""
        for protocol in ("knn", "linear"):
            if f"{protocol}_top1" in metrics:
                yield Number(protocol, "top1", metrics[f"{protocol}_top1"])
        for metric in ("rank1", "rank5", "map"):
            if f"retrieval_{metric}" in metrics:
                yield Number("retrieval", metric, metrics[f"retrieval_{metric}"], count="n_queries")
