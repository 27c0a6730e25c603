"""Inputs of a job: images, saliency maps, and the weights of earlier jobs."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from suite.data.decoded.images import ImageStore
from suite.data.decoded.saliency import open_maps
from suite.data.decoded.split import SplitSource, Subset, labelled_positions
from suite.data.decoded.stores import open_images
from suite.data.record import Split
from suite.data.spec import SaliencySpec
from suite.kinds.base import DataJobSpec
from suite.store.store import Store
from suite.training.evaluation import held_out_subsets
from suite.training.schedule import generator

if TYPE_CHECKING:
    from suite.training.online import OnlineKnn

log = logging.getLogger(__name__)


class Inputs:
    """Opens on demand what a job of a dataset reads.

    Args:
        spec: of the job.
        cache: folder of derived data.
        store: results of earlier jobs.
        online: what to measure during pretraining, for `suite tune`.
    """

    def __init__(self, spec: DataJobSpec, cache: Path, store: Store, online: OnlineKnn | None = None) -> None:
        self.spec, self.cache, self.store, self.online = spec, cache, store, online

    @cached_property
    def images(self) -> ImageStore:
        """The images of the job's dataset: decoded ahead, or to be decoded on demand."""
        return open_images(self.cache, self.spec.data)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.images.facts.classes)

    def split(self, split: Split, saliency: SaliencySpec | None = None) -> SplitSource:
        """The images of a split, with their saliency maps where `saliency` says how those are made."""
        maps = None if saliency is None else open_maps(self.images, saliency, split)
        return SplitSource(self.images, split, maps)

    def fallbacks(self, saliency: SaliencySpec) -> int:
        """Training images whose map gives no box, so that the whole image is used; logged by reason."""
        maps = open_maps(self.images, saliency)
        count = sum(maps.fallbacks.values())
        log.info("saliency: %d images fall back to the whole image %s", count, maps.fallbacks)
        return count

    def train_and_test(
        self, held_out: float, label_fraction: float = 1.0
    ) -> tuple[SplitSource | Subset, SplitSource | Subset, dict[str, int]]:
        """The images to train on, the images to measure on, and their counts.

        With `held_out`, both are parts of the training split and the test split is not read. With a `label_fraction`
        below 1, nothing but that share of every class of the training split is read, for both.
        """
        train: SplitSource | Subset = self.split("train")
        if label_fraction < 1:
            train = Subset(
                train, labelled_positions(train.labels, label_fraction, generator(self.spec.seed, "labelled"))
            )
        if held_out:
            fit_on, choose_on = held_out_subsets(train, held_out, self.spec.seed)
            return fit_on, choose_on, {"n_train": len(fit_on), "n_held_out": len(choose_on)}
        test = self.split("test")
        return train, test, {"n_train": len(train), "n_test": len(test)}

    def backbone(self, key: str | None) -> Path | None:
        """Weight file of the backbone that job `key` left; None for None."""
        return None if key is None else self.store.weights(key, "backbone.safetensors")

    def classifier(self, key: str) -> Path:
        """Weight file of the fine-tuned network that job `key` left."""
        return self.store.weights(key, "model.safetensors")
