"""Training state on disk, and handing a backbone from one stage to the next."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from suite.atomic import atomic_file
from suite.weights import load_backbone_state

hand_over = load_backbone_state  # earlier name, which scripts outside the project import from here

log = logging.getLogger(__name__)

_DIGEST = hashlib.sha256().digest_size


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write everything a resumed run needs, its SHA-256 in front; the old state stays until the new one is complete
    on disk."""
    content = io.BytesIO()
    torch.save(state, content)
    with atomic_file(path) as file:
        file.write(hashlib.sha256(content.getbuffer()).digest())
        file.write(content.getbuffer())


def load_state(path: Path) -> dict[str, Any] | None:
    """The saved state, or None where there is none or it cannot be read (then the job starts afresh, and says so)."""
    if not path.is_file():
        return None
    try:
        content = memoryview(path.read_bytes())
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            raise OSError("its content does not have the recorded SHA-256")
        state: dict[str, Any] = torch.load(io.BytesIO(content[_DIGEST:]), map_location="cpu", weights_only=True)
        if "curve" not in state:
            raise OSError("an earlier version of the suite wrote it")
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError) as error:
        log.warning("checkpoint %s cannot be read (%s); starting this job from its beginning", path.name, error)
        return None
    return state
