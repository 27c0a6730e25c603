"""The grid of `suite evaluate`: one frozen row per backbone, measured without pretraining and without fine-tuning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from methods.args import BackboneArgs
from methods.backbones.base import architectures
from suite.errors import UsageError, unknown
from suite.grid.spec import GridSpec, Row

EVALUATION = "evaluate"  # name of the grid in the store
MEASURES = ("localisation", "background")  # measured where they are asked for
TITLE = "Frozen backbones, top-1 (%) without pretraining and without fine-tuning here"


def evaluation_grid(backbones: Iterable[str], datasets: Sequence[str], measure: Sequence[str] = ()) -> GridSpec:
    """The grid of some backbones on some datasets.

    Args:
        backbones: each ``ARCH`` (random weights), ``ARCH=FILE``, ``ARCH=URL#sha256=...``, or one of these behind
            ``NAME:``, which names the row.
        datasets: names of labelled datasets.
        measure: what to measure beside the probes: localisation, background.

    Raises:
        UsageError: an unknown architecture or measure, or two backbones of one name.
    """
    for name in measure:
        if name not in MEASURES:
            raise unknown("measure", name, MEASURES, "kNN and linear are always measured.")
    rows = [_row(text, measure) for text in backbones]
    if not rows:
        raise UsageError("expected a backbone, such as resnet18 or resnet50=weights.safetensors.")
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two backbones are called '{name}'. Give them names: first:ARCH=FILE second:ARCH=FILE")
    return GridSpec(name=EVALUATION, title=TITLE, datasets=tuple(datasets), reference_row=names[0], rows=tuple(rows))


def _row(text: str, measure: Sequence[str]) -> Row:
    head, equals, source = text.partition("=")
    name, colon, arch = head.rpartition(":")
    if arch not in architectures():
        raise unknown("backbone", arch, architectures(), "A plugin that brings it is named with --plugin.")
    if equals and not source:
        raise UsageError(f"'{text}': expected a file or a URL#sha256=... behind '='.")
    if colon and not re.fullmatch(r"[A-Za-z0-9_.+-]+", name):
        raise UsageError(f"'{text}': a name consists of letters, digits and the characters _ . + -, got '{name}'.")
    if not name:
        stem = re.sub(r"[^A-Za-z0-9_.+-]+", "_", re.split(r"[/\\]", source.partition("#")[0])[-1])
        stem = re.sub(r"\.(safetensors|pth|pt|bin|ckpt|npz)(\.tar)?$", "", stem)
        name = (stem if stem.startswith(arch) else f"{arch}_{stem}") if source else arch
    return frozen_row(name, published_settings(arch), source or None, measure)


def published_settings(arch: str) -> dict[str, object]:
    """The settings of an architecture as published, whatever a profile would choose.

    Raises:
        UsageError: the family's settings have no defaults.
    """
    try:
        args = BackboneArgs.model_validate({"arch": arch})
    except ValidationError as error:
        missing = ", ".join(str(problem["loc"][-1]) for problem in error.errors())
        raise UsageError(f"the backbone '{arch}' has no default for {missing}; its family must give one.") from None
    return args.model_dump(mode="json", exclude={"code"})


def frozen_row(name: str, backbone: dict[str, object], source: str | None = None, measure: Sequence[Any] = ()) -> Row:
    """A row that measures the frozen backbone.

    Args:
        name: of the row.
        backbone: settings of the backbone.
        source: file or URL of its weights; None: random weights.
        measure: of `MEASURES`.
    """
    return Row(
        name=name, label=name, method=name, stage2=False, frozen=True, stage1_checkpoint=source, measure=tuple(measure),
        set={f"backbone.{field}": value for field, value in backbone.items()},
    )  # fmt: skip
