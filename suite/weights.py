"""Weight files: write and read safetensors, and load a backbone from the previous stage."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from suite.atomic import write_bytes
from suite.errors import StoreError, TrainingError


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
