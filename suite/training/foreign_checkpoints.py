"""Checkpoints that others trained, brought to torchvision's key names.

A checkpoint is a state_dict or holds one, and its ResNet has torchvision's key names behind a prefix, or is a
torch.nn.Sequential of torchvision's children. Where a checkpoint has several branches, the trained one is taken
(online, query), never its moving average, as each project's own script for transfer does.

| project | prefix | where to see it |
|---|---|---|
| torchvision | none | `torchvision.models.resnet50().state_dict()` |
| MoCo | `encoder_q.` | facebookresearch/moco, main_lincls.py |
| solo-learn | `backbone.`; `encoder.` up to 1.0.2 | vturrisi/solo-learn, main_linear.py |
| mmselfsup, openmixup, OpenSelfSup | `backbone.`; none once extracted | open-mmlab/mmselfsup, tools/model_converters |
| lightly | `backbone.` before a child's number | lightly-ai/lightly, examples: a Sequential of the children |
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from suite.errors import DataError

_WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys that hold the state_dict
# Classes without behaviour of their own that such files hold beside the weights: MoCo's and others' command lines.
_HARMLESS: list[Any] = [argparse.Namespace]
_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}  # of a ResNet


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a project keeps its ResNet."""

    name: str
    prefix: str
    numbered: bool = False  # children by number, as in a Sequential

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether the first convolution and the first block are where this layout has them."""
        first, block = ("0.weight", "4.0.conv1.weight") if self.numbered else ("conv1.weight", "layer1.0.conv1.weight")
        return self.prefix + first in tensors and self.prefix + block in tensors

    def renamed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The backbone's tensors under torchvision's names, without the classifier or head called fc."""
        own = {key.removeprefix(self.prefix): t for key, t in tensors.items() if key.startswith(self.prefix)}
        if self.numbered:
            own = {_named(key): tensor for key, tensor in own.items()}
        return {key: tensor for key, tensor in own.items() if not key.startswith("fc.")}


LAYOUTS = (  # the first that fits counts
    Layout("MoCo", "encoder_q."),
    Layout("solo-learn, mmselfsup or openmixup", "backbone."),
    Layout("lightly", "backbone.", numbered=True),
    Layout("solo-learn 1.0", "encoder."),
    Layout("torchvision", ""),
    Layout("torchvision's children in a Sequential", "", numbered=True),
)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file by name, from wherever they are nested, without `module.` prefixes.

    Nothing in the file is executed (`weights_only`).

    Raises:
        DataError: no checkpoint, a damaged one, or one that needs code to be read.
    """
    if not path.is_file():
        raise DataError(f"the checkpoint {path} does not exist.")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(_HARMLESS):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read as a checkpoint ({_first_line(error)}). {_nature(path)}") from None
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise DataError(f"{path} cannot be read as a checkpoint. {_nature(path)}") from None
        raise DataError(
            f"{path} holds Python objects ({found[1]}) beside weights, and reading them could run any code. Where you "
            "trust it, load it once with torch.load(..., weights_only=False) and save its state_dict alone."
        ) from None
    return _tensors(content, path)


def backbone_tensors(tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The layout's name, and the backbone's tensors under torchvision's names, in single precision.

    Counters of seen batches, which checkpoints from before torch 0.4.1 lack, are filled in as 0. Whether the tensors
    fit a backbone is for `checkpoint.hand_over` to say.

    Raises:
        DataError: no known layout; lists those that are known, and the first keys found.
    """
    for layout in LAYOUTS:
        if layout.fits(tensors):
            found = {key: t.float() if t.is_floating_point() else t for key, t in layout.renamed(tensors).items()}
            for key in [key for key in found if key.endswith("running_var")]:
                found.setdefault(key.replace("running_var", "num_batches_tracked"), torch.tensor(0))
            return layout.name, found
    known = "; ".join(f"{layout.name}: {layout.prefix or 'no prefix'}" for layout in LAYOUTS)
    raise DataError(
        f"no known layout of a ResNet: the keys begin with {', '.join(list(tensors)[:5])}. Known prefixes: {known}."
    )


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    found = {}
    if isinstance(content, Mapping):
        found = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not found:
        raise DataError(f"{path} holds no state_dict: expected tensors by name, found {_described(content)}.")
    while all(key.startswith("module.") for key in found):  # DataParallel's
        found = {key.removeprefix("module."): value for key, value in found.items()}
    return found


def _described(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a mapping with the keys {', '.join(map(str, list(content)[:5]))}"
    return f"a {type(content).__name__}"


def _named(key: str) -> str:
    number, _, rest = key.partition(".")
    return f"{_CHILDREN.get(number, number)}.{rest}"


def _nature(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if not start:
        return "The file is empty."
    if start.startswith((b"<!doctype", b"<html")):
        return "It is a web page, not a checkpoint: look at the address it came from."
    return "Expected a file of torch.save or safetensors; a download may have been cut off."


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
