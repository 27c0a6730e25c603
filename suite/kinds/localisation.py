"""Localisation: where the networks look, measured on the official boxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from suite.data.spec import SaliencySpec
from suite.jobs.identity import Job
from suite.jobs.sections import Section
from suite.kinds.base import DataJobSpec, MapsRead, MeasuredCell, Protocol, Size, macs

LOCALISATION_VERSION = 1


class LocalisationArgs(Section):
    """Settings of localisation, measured on the official boxes (Choe et al. 2020, arXiv:2007.04178)."""

    threshold_images: int = Field(
        ge=1, description="training images, at most, on whose boxes the thresholds of MaxBoxAcc are chosen"
    )
    thresholds: int = Field(ge=2, description="how many to try, evenly spaced over a map's range")


class LocalisationSpec(DataJobSpec):
    """Localisation by the fine-tuned and the frozen network on test images, against the official boxes.

    A frozen row has no fine-tuned network, and no detector is compared with it.
    """

    kind: Literal["localisation"] = "localisation"
    version: int = LOCALISATION_VERSION
    saliency: SaliencySpec | None  # of the detector that the networks are compared with
    masks: SaliencySpec | None  # the official masks, where the dataset has them
    localisation: LocalisationArgs
    init: str | None  # key of the job whose backbone is looked into; None: the random initialisation
    finetune: str | None  # key of the job whose classifier is; None: the row is frozen


class Localisation(Protocol[LocalisationSpec]):
    """Localisation by the frozen and the fine-tuned network."""

    name = "localisation"
    spec = LocalisationSpec
    loop = "suite.training.localisation:run"
    args = LocalisationArgs
    needs_saliency = True

    def job(self, args: LocalisationArgs, cell: MeasuredCell) -> Job | None:
        """Both networks beside the recipe's saliency detector, or the backbone of a frozen row without a detector;

        None with a fine-tuned network and without a saliency detector in the recipe.
        """
        if cell.finetuned is not None and cell.saliency is None:
            return None
        spec = LocalisationSpec(
            saliency=None if cell.finetuned is None else cell.saliency,
            masks=cell.masks,
            localisation=args,
            init=cell.init,
            finetune=None if cell.finetuned is None else cell.finetuned.key,
            **cell.shared,
        )
        return Job(spec, f"localisation {cell.name}", cell.parents(finetuned=True))

    def maps(self, spec: LocalisationSpec) -> Iterator[MapsRead]:
        """Training images for the thresholds, test images for the comparison, and the official masks."""
        if spec.saliency is not None:
            yield MapsRead(spec.data, spec.saliency, "train")
            yield MapsRead(spec.data, spec.saliency, "test")
        if spec.masks is not None:
            yield MapsRead(spec.data, spec.masks, "test")

    def images(self, spec: LocalisationSpec, size: Size) -> int:
        """Every image through two networks, or one of a frozen row."""
        networks = 1 if spec.finetune is None else 2
        return networks * (min(spec.localisation.threshold_images, size.train) + size.test)

    def macs(self, spec: LocalisationSpec) -> float:
        """A forward pass."""
        return macs(spec.backbone, spec.image_size)
