"""Background reliance: top-1 on test images whose object or background has been exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from suite.data.spec import SaliencySpec
from suite.jobs.identity import Job
from suite.jobs.sections import Section
from suite.kinds.base import DataJobSpec, MapsRead, MeasuredCell, Protocol, Size, macs
from suite.kinds.probe import KnnArgs, ProbeArgs

BACKGROUND_VERSION = 1

_COUNTERFACTUALS = 5  # kinds of images per test image, the original included


class BackgroundArgs(Section):
    """Background reliance of the fine-tuned network, or of kNN on a frozen row's backbone (Xiao et al. 2020,
    arXiv:2006.09994)."""

    fill: Literal["tile", "mean"] = Field(
        description="what takes the object's place: the largest strip of background beside its box, repeated; or the "
        "mean colour outside the box"
    )


class BackgroundSpec(DataJobSpec):
    """Top-1 of a fine-tuned network on test images whose object or background has been exchanged.

    Of a frozen row: top-1 of kNN, with the features of training images as they are. The fields of the frozen row do not
    enter the key of a fine-tuned one.
    """

    kind: Literal["background"] = "background"
    version: int = BACKGROUND_VERSION
    eval_resize: float  # as fine-tuning tests; of a frozen row as the probes do
    saliency: SaliencySpec  # says what is object and what is background
    background: BackgroundArgs
    finetune: str | None  # key of the job whose network is tested; None: the row is frozen
    init: str | None = None  # of a frozen row: key of the job whose backbone is tested; None: random initialisation
    knn: KnnArgs | None = None  # of a frozen row

    @model_serializer(mode="wrap")
    def _leave_out_the_frozen(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        unused = set() if self.finetune is None else {"init", "knn"}
        return {name: value for name, value in values.items() if name not in unused}


class Background(Protocol[BackgroundSpec]):
    """Background reliance of the fine-tuned network, or of a frozen backbone."""

    name = "background"
    spec = BackgroundSpec
    loop = "suite.training.background:run"
    args = BackgroundArgs
    needs_saliency = True

    def job(self, args: BackgroundArgs, cell: MeasuredCell) -> Job | None:
        """A job that measures the fine-tuned network or, of a frozen row, kNN on the backbone.

        None without a saliency detector in the recipe; of a frozen row also without kNN among its probes.
        """
        if cell.saliency is None:
            return None
        if cell.finetuned is None:
            return self._frozen(args, cell, cell.saliency)
        spec = BackgroundSpec(
            eval_resize=cell.eval_resize,
            saliency=cell.saliency,
            background=args,
            finetune=cell.finetuned.key,
            **cell.shared,
        )
        return Job(spec, f"background {cell.name}", cell.parents(pretrained=False, finetuned=True))

    def _frozen(self, args: BackgroundArgs, cell: MeasuredCell, saliency: SaliencySpec) -> Job | None:
        if not isinstance(cell.probe, ProbeArgs) or cell.probe.knn is None:
            return None
        spec = BackgroundSpec(
            eval_resize=cell.probe.eval_resize,
            saliency=saliency,
            background=args,
            finetune=None,
            init=cell.init,
            knn=cell.probe.knn,
            **cell.shared,
        )
        return Job(spec, f"background {cell.name}", cell.parents())

    def maps(self, spec: BackgroundSpec) -> Iterator[MapsRead]:
        """Those of the test images, which say what is object and what is background."""
        yield MapsRead(spec.data, spec.saliency, "test")

    def images(self, spec: BackgroundSpec, size: Size) -> int:
        """Every kind of counterfactual of every test image; of a frozen row also the training images."""
        return _COUNTERFACTUALS * size.test + (size.train if spec.finetune is None else 0)

    def macs(self, spec: BackgroundSpec) -> float:
        """A forward pass."""
        return macs(spec.backbone, spec.image_size)
