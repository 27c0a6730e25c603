"""Before a run starts: finished jobs whose weights are missing or changed on disk are run again."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from filelock import Timeout

from suite.errors import StoreError
from suite.jobs.identity import Job
from suite.kinds.finetune import FinetuneSpec
from suite.store.store import Store

log = logging.getLogger(__name__)


def invalidate_damaged(pending: Iterable[Job], store: Store) -> list[Job]:
    """Invalidate finished parent jobs whose weight files are missing or fail their SHA-256.

    Only the parents of pending jobs are checked: weights that were deleted to save space are made again when another
    job starts from them, and not before. Other jobs need not run again, since the same key gives the same bits.

    Returns:
        The invalidated jobs. Their own parents may be damaged as well: call again until nothing is returned.
    """
    damaged = []
    for parent in {parent.key: parent for job in pending for parent in job.parents if store.done(parent.key)}.values():
        if isinstance(parent.spec, FinetuneSpec):
            continue  # a learning-rate trial; its children read its result, not its weights
        try:
            store.weights(parent.key, "backbone.safetensors")
        except StoreError as error:
            try:
                with store.claim(parent.key).acquire():
                    store.invalidate(parent.key, str(error))
            except Timeout:
                continue  # another run is working on it
            log.warning("%s Running '%s' again.", error, parent.name)
            damaged.append(parent)
    return damaged
