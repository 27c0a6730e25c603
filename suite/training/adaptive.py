"""The steps of a training loop whose views may depend on the network (ContrastiveCrop).

Batches are made ahead of their step, and those after an update must see the updated views. So the loaders make the
batches up to the next update, end, and start again after it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import pairwise

import torch
from torch import Tensor

from methods.backbone import Backbone
from methods.views.adaptive import AdaptiveViews, Reader
from methods.views.batch import Views
from suite.training.feed import Ahead, Feed, Loading

log = logging.getLogger(__name__)


def training_steps(
    feed: Feed, epochs: int, start: int, backbone: Backbone, device: torch.device, loading: Loading
) -> Generator[tuple[int, Views], None, None]:
    """(step, views) from `start` to the last step; adaptive views are updated in between, by `backbone` as it is then.

    An update happens before the first step of its epoch. A run that resumes at that very step does it again, from the
    same weights. Close the iterator, or exhaust it, to end the loaders.
    """
    views, per_epoch, total = feed.views, feed.batches.per_epoch, feed.batches.total
    updates: set[int] = set()
    if isinstance(views, AdaptiveViews):
        updates = {epoch * per_epoch for epoch in views.update_epochs(epochs)}
    for first, end in pairwise(sorted({start, total} | {step for step in updates if step > start})):
        if isinstance(views, AdaptiveViews) and first in updates:
            began = time.monotonic()
            views.update(backbone, device, _read_ahead(loading))
            log.info("views updated before epoch %d, %.1f s", first // per_epoch + 1, time.monotonic() - began)
        with closing(feed.steps(first, end)) as steps:
            yield from steps


def _read_ahead(loading: Loading) -> Reader:
    """A reader that uses the loaders of the training loop."""

    def read(make: Callable[[range], Tensor], chunks: list[range]) -> Iterator[Tensor]:
        with Ahead(lambda number: make(chunks[number]), range(len(chunks)), loading) as ahead:
            for _ in chunks:
                yield ahead.take()

    return read
