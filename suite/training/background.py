"""Background reliance of a fine-tuned network: its top-1 on test images whose object or background has been
exchanged (kinds of images: `methods.measures.counterfactuals`; Xiao et al. 2020, arXiv:2006.09994).

Of a frozen row, which has no classifier: top-1 of kNN on pooled features, with the training images as they are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial

from torch import Tensor

from methods.measures.counterfactuals import COUNTERFACTUAL_KINDS, Counterfactuals, CounterfactualsOfKind
from suite.data.decoded.split import SplitSource
from suite.errors import TrainingError
from suite.kinds.background import BackgroundSpec
from suite.training.evaluation import centre_crops, top1_accuracy
from suite.training.features import features, knn_predict
from suite.training.finetune import predict
from suite.training.inputs import Inputs
from suite.training.networks import frozen_backbone, tuned_classifier
from suite.training.outcome import Outcome
from suite.training.session import Session

log = logging.getLogger(__name__)

Predict = Callable[[Iterable[Tensor]], Tensor]  # batches uint8 [B, 3, S, S] -> classes int64 [N], on the CPU


def run(spec: BackgroundSpec, inputs: Inputs, session: Session) -> Outcome:
    """Measure the network that the job names; the entry that `suite.kinds.background` names."""
    test = inputs.split("test", spec.saliency)
    return background(spec, test, partial(_classifier, spec, inputs, session), session)


def background(
    spec: BackgroundSpec, test: SplitSource, classifier: Callable[[], tuple[Predict, int]], session: Session
) -> Outcome:
    """Top-1 on each kind of image, central crops as fine-tuning (of a frozen row: as the probes) tests them.

    Args:
        test: with saliency maps.
        classifier: called where there is something to measure; gives what predicts classes, and the number of images
            that it has read.

    Returns:
        Top-1 in percent per kind, and bg_gap, mixed_same - mixed_rand in points; no metric where no image has an
        object and a background. Counts of the images.
    """
    began = time.monotonic()
    images = Counterfactuals(test, test.labels, spec.saliency.threshold, spec.background.fill, spec.seed)
    counts = {"n_test": len(images), "n_left_out": len(test) - len(images), "n_alone": images.without_partner}
    log.info("%(n_test)d test images; %(n_left_out)d left out, whose map gives no box", counts)
    if not len(images):
        log.warning("no test image has both an object and a background: nothing is measured")
        return Outcome({}, images=0, seconds=0.0, counts=counts)
    predict_classes, read = classifier()
    metrics: dict[str, float] = {}
    for kind in COUNTERFACTUAL_KINDS:
        counterfactuals = CounterfactualsOfKind(images, kind)
        crops = centre_crops(
            counterfactuals, spec.image_size, spec.eval_resize, session.loading, session.raise_if_stopped
        )
        with closing(crops):
            metrics[kind] = top1_accuracy(predict_classes(crops), images.labels)
    metrics["bg_gap"] = metrics["mixed_same"] - metrics["mixed_rand"]
    passed = read + len(COUNTERFACTUAL_KINDS) * len(images)
    return Outcome(metrics, images=passed, seconds=time.monotonic() - began, counts=counts)


def _classifier(spec: BackgroundSpec, inputs: Inputs, session: Session) -> tuple[Predict, int]:
    """The fine-tuned network, or kNN on the frozen backbone; and the number of images read for it."""
    device = session.fabric.device
    if spec.finetune is not None:
        model = tuned_classifier(spec, spec.finetune, inputs.classifier(spec.finetune), inputs.classes, device)
        return lambda crops: predict(model, crops, device), 0
    if spec.knn is None:
        raise TrainingError("a background job without a fine-tuned network needs the settings of kNN.")
    knn, backbone, train = spec.knn, frozen_backbone(spec, inputs.backbone(spec.init), device), inputs.split("train")
    crops = centre_crops(train, spec.image_size, spec.eval_resize, session.loading, session.raise_if_stopped)
    with closing(crops):
        bank, labels = features(backbone, crops, device), train.labels.to(device)
    return lambda crops: knn_predict(bank, labels, features(backbone, crops, device), knn).cpu(), len(train)
