"""Where networks look, measured on the official boxes of test images (measures: `methods.measures.localisation`).

cam  Grad-CAM of the fine-tuned network for the image's true class (arXiv:1610.02391); none of a frozen row
act  squared L2 norm of the features at each place of the pretrained backbone's last stage; no label is used
and, to compare with, maps that know no network:
centre    a Gaussian around the image's centre, sigma a quarter of the side (of which only the energy depends)
whole     the same everywhere
DETECTOR  the saliency map that views and counterfactuals are made with; none beside a frozen row

Each image is seen whole, squeezed to the network's square, as by Choe et al. (arXiv:2007.04178): no box is cut. The
threshold at which a map becomes boxes is chosen for each kind of map on official boxes of training images.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from methods.backbone import Backbone, Classifier
from methods.measures.grad_cam import grad_cam
from methods.measures.localisation import OVERLAPS, Scores, best_thresholds, overlaps
from methods.views.batch import to_unit
from methods.views.resampling import resample
from suite.data.decoded.split import SplitSource
from suite.kinds.localisation import LocalisationSpec
from suite.training.evaluation import measuring_precision, network_input
from suite.training.feed import Ahead
from suite.training.inputs import Inputs
from suite.training.networks import frozen_backbone, tuned_classifier
from suite.training.outcome import Outcome
from suite.training.schedule import derived_seed, generator
from suite.training.session import Session

log = logging.getLogger(__name__)

_BATCH = 64
_NETWORKS_FLAT = ("cam_flat", "act_flat")  # the other maps' share without contrast says nothing


@dataclass(frozen=True)
class _Batch:
    """Some images of a split, squeezed to S x S."""

    inputs: Tensor  # float32 [B, 3, S, S], normalised, on the device; from a loader uint8, on the CPU
    labels: Tensor  # int64 [B]
    saliency: Tensor | None  # float32 [B, S, S]
    boxes: Tensor  # float32 [B, 4], official, in pixels of the S x S image
    masks: Tensor | None = None  # float32 [B, S, S], official


def run(spec: LocalisationSpec, inputs: Inputs, session: Session) -> Outcome:
    """Measure the networks that the job names; the entry that `suite.kinds.localisation` names."""
    train, test = inputs.split("train", spec.saliency), inputs.split("test", spec.saliency)
    masks = None if spec.masks is None else inputs.split("test", spec.masks)
    init = inputs.backbone(spec.init)
    tuned = None if spec.finetune is None else inputs.classifier(spec.finetune)
    return localisation(spec, train, test, masks, inputs.classes, init, tuned, session)


def localisation(
    spec: LocalisationSpec,
    train: SplitSource,
    test: SplitSource,
    masks: SplitSource | None,
    classes: int,
    init: Path | None,
    tuned: Path | None,
    session: Session,
) -> Outcome:
    """Measure every kind of map on the test images that have an official box.

    Args:
        train: with saliency maps where the job names a detector; of it only images with boxes for the thresholds are
            read.
        test: with saliency maps where the job names a detector.
        masks: the test images with their official masks in place of saliency; None where there are none.
        init: weights of the backbone; None for the untrained one.
        tuned: weights of the fine-tuned network; None of a frozen row.

    Returns:
        Metrics in percent, such as cam_pointing (none where the dataset has no boxes), and the counts of the images.
    """
    began, device = time.monotonic(), session.fabric.device
    model = None
    if tuned is not None and spec.finetune is not None:
        model = tuned_classifier(spec, spec.finetune, tuned, classes, device)
    backbone = frozen_backbone(spec, init, device)
    detector = None if spec.saliency is None else spec.saliency.detector
    makers = _makers(model, backbone, detector, spec.image_size)
    train_places, test_places = _with_box(train), _with_box(test)
    counts = {"n_test": len(test_places), "n_thresholds": 0}
    if not train_places or not test_places:
        log.warning(
            "no official boxes: %d training images, %d test images have one", len(train_places), len(test_places)
        )
        return Outcome({}, images=0, seconds=0.0, counts=counts)

    rng = generator(derived_seed(spec.seed, "localisation"))
    sample = torch.randperm(len(train_places), generator=rng)[: spec.localisation.threshold_images].sort().values
    threshold_places = [train_places[number] for number in sample.tolist()]
    tried = [step / spec.localisation.thresholds for step in range(spec.localisation.thresholds)]
    by_map: dict[str, list[Any]] = {name: [] for name in makers}
    with measuring_precision(), closing(_batches(train, threshold_places, spec.image_size, session)) as batches:
        for batch in batches:
            for name, maps in makers.items():
                by_map[name].append(overlaps(maps(batch), batch.boxes, tried))
    thresholds = {name: best_thresholds(np.concatenate(parts), tried) for name, parts in by_map.items()}
    for name, values in thresholds.items():
        pairs = ", ".join(f"{wanted}: {value:g}" for wanted, value in zip(OVERLAPS, values, strict=True))
        log.info("%s: thresholds by overlap, from %d training images: %s", name, len(threshold_places), pairs)

    scores = {name: Scores(values) for name, values in thresholds.items()}
    with measuring_precision(), closing(_batches(test, test_places, spec.image_size, session, masks)) as batches:
        for batch in batches:
            inside = None if batch.masks is None else batch.masks >= 0.5
            for name, maps in makers.items():
                scores[name].add(maps(batch), batch.boxes, inside)
    metrics = {f"{name}_{m}": value for name, s in scores.items() for m, value in s.percentages().items()}
    return Outcome(
        {name: v for name, v in metrics.items() if not name.endswith("_flat") or name in _NETWORKS_FLAT},
        images=(1 if model is None else 2) * (len(threshold_places) + len(test_places)),
        seconds=time.monotonic() - began,
        counts=counts | {"n_thresholds": len(threshold_places)},
    )


def _makers(
    model: Classifier | None, backbone: Backbone, detector: str | None, side: int
) -> dict[str, Callable[[_Batch], Tensor]]:
    """By name, what makes maps [B, S, S], float32 on the CPU and not negative, of a batch."""
    centred = (torch.arange(side) + 0.5) / side - 0.5
    hump = torch.exp(-(centred**2) / (2 * 0.25**2))
    centre = hump[:, None] * hump

    @torch.no_grad()
    def activation(batch: _Batch) -> Tensor:
        norms = backbone(batch.inputs).square().sum(dim=1, keepdim=True)
        # Enlarged on the CPU: the small maps are what is copied from the device.
        return interpolate(norms.cpu(), (side, side), mode="bilinear", align_corners=False)[:, 0]

    makers: dict[str, Callable[[_Batch], Tensor]] = {}
    if model is not None:
        makers["cam"] = lambda batch: grad_cam(model, batch.inputs, batch.labels)
    makers["act"] = activation
    if detector is not None:
        makers[detector] = lambda batch: cast(Tensor, batch.saliency)
    makers["centre"] = lambda batch: centre.expand(len(batch.labels), -1, -1)
    makers["whole"] = lambda batch: torch.ones(1, side, side).expand(len(batch.labels), -1, -1)
    return makers


def _with_box(source: SplitSource) -> list[int]:
    """Positions of the images whose official box is known."""
    positions: list[int] = (~source.official_boxes.isnan().any(dim=1)).nonzero()[:, 0].tolist()
    return positions


def _batches(
    source: SplitSource, positions: list[int], side: int, session: Session, masks: SplitSource | None = None
) -> Generator[_Batch, None, None]:
    """The images at `positions`, batch by batch; loaders squeeze images and maps ahead."""
    starts = range(0, len(positions), _BATCH)

    def squeezed(start: int) -> _Batch:
        places = positions[start : start + _BATCH]
        images, boxes = [], []
        for place in places:
            image = source.image(place)
            height, width = image.shape[1:]
            images.append(resample(image, (0, 0, width, height), (side, side), "bilinear"))
            boxes.append(source.official_boxes[place] * torch.tensor([side / width, side / height]).repeat(2))
        return _Batch(
            torch.stack(images),
            source.labels[places],
            _squeezed_maps(source, places, side) if source.has_maps else None,
            torch.stack(boxes),
            None if masks is None else _squeezed_maps(masks, places, side),
        )

    with Ahead(squeezed, starts, session.loading) as ahead:
        for _ in starts:
            session.raise_if_stopped()
            batch = ahead.take()
            yield replace(batch, inputs=network_input(batch.inputs, session.fabric.device))


def _squeezed_maps(source: SplitSource, places: list[int], side: int) -> Tensor:
    """float32 [B, S, S] in [0, 1]."""
    maps = [source.saliency(place) for place in places]
    whole = [resample(m, (0, 0, m.shape[2], m.shape[1]), (side, side), "bilinear")[0] for m in maps]
    return to_unit(torch.stack(whole))
