"""Training state on disk, and handing a backbone from one stage to the next."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from suite.errors import StoreError, TrainingError
from suite.store.atomic import atomic_file, write_bytes

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


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's state_dict as safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    write_bytes(path, save(tensors))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} cannot be read: {error}. Delete its job's folder and run the grid again.") from None


def hand_over(module: nn.Module, tensors: dict[str, Tensor], source: str) -> str:
    """Load every tensor of `module` from `tensors`; nothing may be missing, left over or of another shape.

    Returns:
        What was loaded, such as ``318/318 tensors``, for the log.

    Raises:
        TrainingError: names what does not fit. Nothing is loaded then.
    """
    own = module.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - own.keys())
    misshapen = [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if own[name].shape != tensors[name].shape
    ]
    if missing or unexpected or misshapen:
        raise TrainingError(
            f"the weights of {source} do not fit this backbone: "
            f"missing {_few(missing)}; unexpected {_few(unexpected)}; other shape: {_few(misshapen)}"
        )
    module.load_state_dict(tensors)
    return f"{len(own)}/{len(own)} tensors"


def _few(names: list[str]) -> str:
    return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "none"
