"""Background reliance of a fine-tuned network: its top-1 on test images whose object or background has been
exchanged (kinds of images: `methods.measures.counterfactuals`; Xiao et al. 2020, arXiv:2006.09994)."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from pathlib import Path

from methods.measures.counterfactuals import KINDS, Counterfactuals, Exchanged
from suite.data.decoded.split import SplitSource
from suite.kinds.background import BackgroundSpec
from suite.training.evaluation import centre_crops, top1_accuracy
from suite.training.finetune import predict
from suite.training.inputs import Inputs
from suite.training.networks import tuned_classifier
from suite.training.outcome import Outcome
from suite.training.session import Session

log = logging.getLogger(__name__)


def run(spec: BackgroundSpec, inputs: Inputs, session: Session) -> Outcome:
    """Measure the network that the job names; the entry that `suite.kinds.background` names."""
    test = inputs.split("test", spec.saliency)
    return background(spec, test, inputs.classes, inputs.classifier(spec.finetune), session)


def background(spec: BackgroundSpec, test: SplitSource, classes: int, tuned: Path, session: Session) -> Outcome:
    """Top-1 on each kind of image, central crops as fine-tuning tests them.

    Args:
        test: with saliency maps.
        tuned: weights of the fine-tuned network.

    Returns:
        Top-1 in percent per kind, and bg_gap, mixed_same - mixed_rand in points; no metric where no image has an
        object and a background. Counts of the images.
    """
    began = time.monotonic()
    images = Counterfactuals(test, test.labels, spec.saliency.threshold, spec.background.fill, spec.seed)
    counts = {"n_test": len(images), "n_left_out": len(test) - len(images), "n_alone": images.alone}
    log.info("%(n_test)d test images; %(n_left_out)d left out, whose map gives no box", counts)
    if not len(images):
        log.warning("no test image has both an object and a background: nothing is measured")
        return Outcome({}, images=0, seconds=0.0, counts=counts)
    model = tuned_classifier(spec, tuned, classes, session.fabric.device)
    metrics: dict[str, float] = {}
    for kind in KINDS:
        pictures = Exchanged(images, kind)
        crops = centre_crops(pictures, spec.image_size, spec.eval_resize, session.loading, session.raise_if_stopped)
        with closing(crops):
            metrics[kind] = top1_accuracy(predict(model, crops, session.fabric.device), images.labels)
    metrics["bg_gap"] = metrics["mixed_same"] - metrics["mixed_rand"]
    return Outcome(metrics, images=len(KINDS) * len(images), seconds=time.monotonic() - began, counts=counts)
