"""Before anything starts: finished stages whose weights have been lost or changed on disk are to be done again."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from filelock import Timeout

from suite.errors import StoreError
from suite.jobs.identity import Job
from suite.kinds.finetune import FinetuneSpec
from suite.store.store import Store

log = logging.getLogger(__name__)


def distrust_damaged(pending: Iterable[Job], store: Store) -> list[Job]:
    """Set aside what pending jobs start from, where it is no longer what the store recorded.

    Only what is needed is looked at: a stage whose weights were deleted to save space is done again when another job
    is to start from it, and not before. The same key gives the same bits, so nothing else has to be.

    Returns:
        The jobs to be done again; there may be more behind them, so look again until there are none.
    """
    damaged = []
    for parent in {parent.key: parent for job in pending for parent in job.parents if store.done(parent.key)}.values():
        if isinstance(parent.spec, FinetuneSpec):
            continue  # a learning rate that was tried; its children read its result alone
        try:
            store.weights(parent.key, "backbone.safetensors")
        except StoreError as error:
            try:
                with store.claim(parent.key).acquire():
                    store.distrust(parent.key, str(error))
            except Timeout:
                continue  # another run is at it already
            log.warning("%s Doing '%s' again.", error, parent.name)
            damaged.append(parent)
    return damaged
