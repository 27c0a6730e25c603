"""Weight files: write and read safetensors, and load a backbone from the previous stage."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from suite.atomic import write_bytes
from suite.errors import StoreError, TrainingError
from suite.text import few


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


def load_backbone_state(module: nn.Module, tensors: dict[str, Tensor], source: str) -> str:
    """Load all tensors of a backbone, or of a classifier. Names and shapes must match exactly.

    Args:
        module: receives the tensors.
        tensors: by name, as in `module.state_dict()`.
        source: where they come from, for messages.

    Returns:
        The number of tensors for the log, such as ``318/318 tensors``.

    Raises:
        TrainingError: names the tensors that are missing, unexpected or of another shape. Nothing is loaded then.
    """
    expected = module.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    misshapen = [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & tensors.keys())
        if expected[name].shape != tensors[name].shape
    ]
    if missing or unexpected or misshapen:
        raise TrainingError(
            f"the weights of {source} do not fit this backbone: "
            f"missing {few(missing)}; unexpected {few(unexpected)}; other shape: {few(misshapen)}"
        )
    module.load_state_dict(tensors)
    return f"{len(expected)}/{len(expected)} tensors"
