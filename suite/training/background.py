"""How much a fine-tuned network goes by the background: its top-1 on test images whose object or background has been
exchanged (kinds of images: `analysis.counterfactuals`; Xiao et al. 2020, arXiv:2006.09994)."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from analysis.counterfactuals import KINDS, Counterfactuals, Exchanged
from suite.data.source import SplitSource
from suite.grid.jobs import BackgroundSpec
from suite.training.evaluation import centre_crops, percent
from suite.training.finetune import predict
from suite.training.networks import tuned_classifier
from suite.training.session import Interrupted, Session

log = logging.getLogger(__name__)


def background(spec: BackgroundSpec, test: SplitSource, classes: int, tuned: Path, session: Session) -> dict[str, Any]:
    """Top-1 on each kind of image, central crops as fine-tuning tests them.

    Args:
        test: with saliency maps.
        tuned: weights of the fine-tuned network.

    Returns:
        metrics: top-1 in percent per kind, and bg_gap, mixed_same - mixed_rand in points (none where no image has an
        object and a background); counts; images, seconds.
    """
    began = time.monotonic()
    images = Counterfactuals(test, test.labels, spec.saliency.threshold, spec.background.fill, spec.seed)
    counts = {"n_test": len(images), "n_left_out": len(test) - len(images), "n_alone": images.alone}
    log.info("%(n_test)d test images; %(n_left_out)d left out, whose map gives no box", counts)
    if not len(images):
        log.warning("no test image has both an object and a background: nothing is measured")
        return {"metrics": {}, "counts": counts, "suspicious": [], "images": 0, "seconds": 0.0}
    model = tuned_classifier(spec, tuned, classes, session.fabric.device)
    metrics: dict[str, float] = {}
    for kind in KINDS:
        if session.should_stop():
            raise Interrupted
        crops = centre_crops(Exchanged(images, kind), spec.image_size, spec.eval_resize)
        metrics[kind] = percent(predict(model, crops, session.fabric.device), images.labels)
    metrics["bg_gap"] = metrics["mixed_same"] - metrics["mixed_rand"]
    return {
        "metrics": metrics,
        "counts": counts,
        "suspicious": [],
        "images": len(KINDS) * len(images),
        "seconds": time.monotonic() - began,
    }
