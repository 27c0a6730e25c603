"""Jobs that measure a fine-tuned network: opens what they read and calls their loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suite.grid.jobs import BackgroundSpec, TunedReader


def measure(
    spec: TunedReader, cache: Path, init: Path | None, tuned: Path, session: Any
) -> tuple[dict[str, Any], dict[str, int]]:
    """Map the decoded images and maps and measure. Returns the loop's outcome and the counts to record.

    Args:
        spec: localisation or background.
        cache: where the decoded images are.
        init: the pretrained backbone's weights, where there are any.
        tuned: the fine-tuned network's.
        session: of the job.
    """
    from suite.data.images import open_store, store_folder
    from suite.data.maps import open_maps
    from suite.data.source import SplitSource
    from suite.training.background import background
    from suite.training.localisation import localisation

    images = open_store(store_folder(cache, spec.data.name, spec.data.fingerprint, spec.data.store_size))
    classes = len(images.facts.classes)
    test = SplitSource(images, "test", open_maps(images, spec.saliency, "test"))
    if isinstance(spec, BackgroundSpec):
        outcome = background(spec, test, classes, tuned, session)
    else:
        train = SplitSource(images, "train", open_maps(images, spec.saliency))
        masks = None if spec.masks is None else SplitSource(images, "test", open_maps(images, spec.masks, "test"))
        outcome = localisation(spec, train, test, masks, classes, init, tuned, session)
    return outcome, outcome.pop("counts")
