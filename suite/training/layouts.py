"""Find a backbone among the tensors of a foreign checkpoint, by the backbone's own keys.

A candidate is a prefix: the part of a name before one of the backbone's keys, with all its containers, wrappers and
branches (``state_dict.module.encoder_q.``). A torch.nn.Sequential of the backbone's children is a candidate too: its
numbers stand for the children that have tensors, in their order (lightly, PyTorch-BYOL). Other spellings of a ResNet's
keys are in `RENAMED`, and nowhere else. A candidate is complete if it has every tensor of the backbone, in its shape,
and no further one inside the backbone's children.

Among complete candidates a trained network is preferred to its moving average, as in each project's own script for
transfer; then the fewest parts in the prefix decide; then the order in the file. A moving average is recognised by a
word of its prefix (ema, momentum, target, teacher, encoder_k, ...).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from methods.args import BackboneArgs
from suite.errors import DataError
from suite.text import few
from suite.training.foreign_checkpoints import read_checkpoint
from suite.training.stored_tensors import StoredTensor

_Stored = Mapping[str, StoredTensor | Tensor]
_Shapes = Mapping[str, tuple[int, ...] | None]  # of the backbone's state_dict; None: any shape
# torch's own wrappers, which may stand anywhere in a name: torch.compile, FSDP, activation checkpointing.
_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
_AVERAGES = {
    "average", "averaged", "avg", "ema", "k", "key", "momentum", "moving", "offline", "shadow", "slow", "swa", "target",
    "teacher",
}  # fmt: skip
_COUNTER = "num_batches_tracked"  # of a batch normalisation; files from before torch 0.4.1 have none


def _transformers(key: str) -> str:
    """Hugging Face's transformers: ResNetModel."""
    stem = {"conv1": "embedder.embedder.convolution", "bn1": "embedder.embedder.normalization"}
    first, _, rest = key.partition(".")
    if first in stem:
        return f"{stem[first]}.{rest}"
    block = re.sub(r"^layer(\d)\.(\d+)\.", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.", key)
    block = block.replace("downsample.0", "shortcut.convolution").replace("downsample.1", "shortcut.normalization")
    block = re.sub(r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution.", block)
    return re.sub(r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization.", block)


# Per layout, the backbone's key -> the key in the file. The first is the backbone's own.
RENAMED: dict[str, Callable[[str], str]] = {"": str, "transformers' ResNet": _transformers}


class ForeignBackbone(NamedTuple):
    """A backbone out of a foreign checkpoint."""

    description: str  # which tensors were taken, and what was left
    tensors: dict[str, Tensor]  # by the backbone's keys


@dataclass(frozen=True)
class Candidate:
    """One place in a checkpoint where the backbone may be."""

    prefix: str
    layout: str  # empty: the backbone's own keys
    names: Mapping[str, str]  # the backbone's key -> name in the file, for those that are there
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]  # further tensors inside the backbone's children
    other_shape: tuple[str, ...]  # keys

    @property
    def complete(self) -> bool:
        """Whether it is the whole backbone and nothing else."""
        return not (self.missing or self.unexpected or self.other_shape)

    @property
    def averaged(self) -> bool:
        """Whether its prefix has a word for a moving average."""
        return not _AVERAGES.isdisjoint(re.split(r"[^a-z]+", self.prefix.lower()))

    def __str__(self) -> str:
        place = f"'{self.prefix}'" if self.prefix else "the beginning of the names"
        return f"{place} ({self.layout})" if self.layout else place


def import_backbone(path: Path, reference: Mapping[str, Tensor]) -> ForeignBackbone:
    """The backbone in a checkpoint file. Raises DataError as `read_checkpoint` and `backbone_tensors` do."""
    return backbone_tensors(read_checkpoint(path), reference)


def backbone_tensors(stored: _Stored, reference: Mapping[str, Tensor] | None = None) -> ForeignBackbone:
    """The backbone's tensors under its own keys, floating-point ones in the reference's precision.

    Args:
        stored: tensors by name, from `read_checkpoint`.
        reference: the backbone's state_dict; only its keys, shapes and dtypes count. None: any ResNet of the suite, in
            any width.

    Raises:
        DataError: no such backbone (names what the nearest candidate lacks), or weights that are not finite.
    """
    references = _default_networks() if reference is None else [{key: tuple(t.shape) for key, t in reference.items()}]
    candidates = [found for shapes in references for found in _candidates(stored, shapes)]
    complete = sorted((c for c in candidates if c.complete), key=lambda c: (-len(c.names), c.averaged))
    if not complete:
        raise DataError(_refusal(stored, references[-1], candidates))
    size = len(complete[0].names)
    rivals = [c for c in complete if len(c.names) == size]
    chosen = min(rivals, key=lambda c: (c.averaged, c.prefix.count(".")))
    tensors = {}
    for key, name in chosen.names.items():
        dtype = torch.float32 if reference is None else reference[key].dtype
        tensors[key] = _read(stored[name], name, dtype)
    _refuse_not_finite(tensors, chosen.names)
    for key in next(shapes for shapes in references if chosen.names.keys() <= shapes.keys()):
        if key.endswith(_COUNTER):
            tensors.setdefault(key, torch.tensor(0))
    return ForeignBackbone(_description(stored, chosen, rivals), tensors)


def _candidates(stored: _Stored, shapes: _Shapes) -> Iterator[Candidate]:
    """Every prefix that has at least one of the backbone's keys, in the file's order."""
    short: dict[str, str] = {}
    for name in stored:
        short.setdefault(_WRAPPERS.sub("", name).lstrip("."), name)
    for layout, rename in RENAMED.items():
        spelt = {rename(key): key for key in shapes}
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for name in short:
            for prefix, rest in _splits(name):
                if rest in spelt:
                    found[prefix][spelt[rest]] = name
        for prefix, names in found.items():
            if len(names) > 1 or len(shapes) == 1:
                yield _candidate(prefix, layout, names, rename, short, stored, shapes)
    children = list(dict.fromkeys(key.partition(".")[0] for key in shapes))
    for prefix, numbers in _sequentials(short).items():
        if len(numbers) >= len(children):
            number = dict(zip(children, map(str, sorted(numbers)), strict=False))

            def numbered(key: str, number: Mapping[str, str] = number) -> str:
                child, dot, rest = key.partition(".")
                return f"{number[child]}{dot}{rest}"

            names = {key: f"{prefix}{numbered(key)}" for key in shapes if f"{prefix}{numbered(key)}" in short}
            if len(names) > 1:
                yield _candidate(prefix, "a Sequential of its children", names, numbered, short, stored, shapes)


def _splits(name: str) -> Iterator[tuple[str, str]]:
    yield "", name
    for dot in re.finditer(r"\.", name):
        yield name[: dot.end()], name[dot.end() :]


def _sequentials(names: Mapping[str, str]) -> dict[str, set[int]]:
    """Per prefix, the numbers that follow it."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for name in names:
        for part in re.finditer(r"(?:^|\.)(\d{1,4})(?=\.)", name):
            numbers[name[: part.start(1)]].add(int(part[1]))
    return numbers


def _candidate(
    prefix: str,
    layout: str,
    names: Mapping[str, str],
    rename: Callable[[str], str],
    short: Mapping[str, str],
    stored: _Stored,
    shapes: _Shapes,
) -> Candidate:
    ordered = {key: short[names[key]] for key in shapes if key in names}
    inside = tuple({f"{prefix}{rename(key).partition('.')[0]}." for key in shapes if "." in key})
    taken = set(names.values())
    return Candidate(
        prefix,
        layout,
        ordered,
        tuple(key for key in shapes if key not in names and not key.endswith(_COUNTER)),
        tuple(n.removeprefix(prefix) for n in short if n not in taken and n.startswith(inside)),
        tuple(key for key, name in ordered.items() if shapes[key] not in {None, tuple(stored[name].shape)}),
    )


def _read(tensor: StoredTensor | Tensor, name: str, dtype: torch.dtype) -> Tensor:
    try:
        value = tensor.read() if isinstance(tensor, StoredTensor) else tensor.detach().cpu()
    except (ValueError, RuntimeError, IndexError) as error:
        raise DataError(f"the tensor {name} is damaged ({error}): get the checkpoint again.") from None
    return value.to(dtype) if value.is_floating_point() else value


def _refuse_not_finite(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    wrong = [names[key] for key, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise DataError(
            f"weights that are not finite (NaN or infinite) in {few(wrong)}: {len(wrong)} of {len(tensors)} tensors. "
            "The training that wrote the checkpoint diverged; take an earlier one."
        )


def _default_networks() -> list[_Shapes]:
    from methods.backbones.base import architectures
    from methods.backbones.registry import build_backbone

    found: list[_Shapes] = []
    for arch in architectures():
        with torch.device("meta"):
            found.append(dict.fromkeys(build_backbone(BackboneArgs.model_validate({"arch": arch})).state_dict()))
    return found


def _description(stored: _Stored, chosen: Candidate, rivals: list[Candidate]) -> str:
    others = [str(rival) for rival in rivals if rival.prefix != chosen.prefix]
    used = {name for rival in rivals for name in rival.names.values()}
    rest = [name for name in stored if name not in used]
    text = f"{len(chosen.names)} tensors at {chosen}"
    if others:
        why = "" if chosen.averaged or not any(r.averaged for r in rivals) else ", the trained network's,"
        text += f"{why} taken; the backbone was also at {few(others)}"
    return f"{text}; {len(rest)} other tensors left out" if rest else text


def _refusal(stored: _Stored, shapes: _Shapes, candidates: list[Candidate]) -> str:
    if not candidates:
        return (
            f"no tensor of the backbone among {len(stored)} tensors: expected keys that end in "
            f"{', '.join(list(shapes)[:3])}; the file's begin with {', '.join(list(stored)[:5])}."
        )
    nearest = max(candidates, key=lambda c: (len(c.names) - len(c.other_shape), -len(c.unexpected), -len(c.prefix)))
    shapes_there = [
        f"{key} is {tuple(stored[nearest.names[key]].shape)}, expected {shapes.get(key)}"
        for key in sorted(nearest.other_shape)
    ]
    return (
        f"no tensors that fit this backbone. The nearest are at {nearest}: missing {few(sorted(nearest.missing))}; "
        f"unexpected {few(sorted(nearest.unexpected))}; other shape: {few(shapes_there)}."
    )
