"""Import foreign checkpoints as finished first-stage jobs, before any training starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from suite.errors import DataError, SuiteError
from suite.execute.context import Device
from suite.execute.provenance import environment
from suite.jobs.identity import Job
from suite.kinds.imported import ImportSpec
from suite.store.store import Failure, Result, Store, sha256

log = logging.getLogger(__name__)

_WAIT = 600.0  # seconds for another run that imports the same file


def import_checkpoints(jobs: Iterable[Job], files: Mapping[str, Path], store: Store) -> None:
    """Import every checkpoint that is not in the store yet, and say which of its tensors were taken.

    Args:
        jobs: pending jobs; other kinds than imports are ignored.
        files: file per SHA-256.
        store: receives the backbones.

    Raises:
        DataError: the file is no checkpoint, has weights that are not finite, or does not fit the backbone.
    """
    for job in jobs:
        if isinstance(job.spec, ImportSpec):
            with store.claim(job.key).acquire(timeout=_WAIT):
                if store.result(job.key) is None:
                    _import(job, job.spec, files[job.spec.sha256], store)


def _import(job: Job, spec: ImportSpec, file: Path, store: Store) -> None:
    from methods.backbones.registry import build_backbone
    from suite.training.layouts import import_backbone
    from suite.weights import load_backbone_state, save_weights

    began = time.monotonic()
    store.begin(job, environment(Device()))
    try:
        backbone = build_backbone(spec.backbone)
        description, tensors = import_backbone(file, backbone.state_dict())
        load_backbone_state(backbone, tensors, file.name)
    except SuiteError as error:
        store.fail(job.key, Failure(error=str(error), kind="failed", traceback=""))
        raise DataError(f"{job.name}, {file.name}: {error}") from error
    path = store.checkpoint(job.key) / "backbone.safetensors"
    save_weights(path, backbone)
    log.warning("%s, %s: %s", job.name, file.name, description)
    store.finish(
        Result(
            key=job.key, name=job.name, metrics={}, counts={"tensors": len(tensors)}, files={path.name: sha256(path)},
            seconds=time.monotonic() - began, images_per_second=0.0,
        )
    )  # fmt: skip
