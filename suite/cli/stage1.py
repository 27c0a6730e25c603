"""`suite data fetch stage1` and the public checkpoints in `suite data list`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suite.data.download.public import PublicCheckpoint


def fetch_stage1(names: Sequence[str], data_root: Path, cache: Path, handed: Sequence[Path]) -> None:
    """Download the named checkpoints, by default those of `--stage1 public`; prints file and SHA-256 of each.

    Raises:
        DataError: some could not be had; the others are there.
    """
    from suite.data.download.public import checkpoint_named, defaults, fetch_public
    from suite.errors import DataError
    from suite.progress import preparation

    wanted = [checkpoint_named(name) for name in names] or _of_objectives(defaults())
    failures = []
    for checkpoint in wanted:
        try:
            with preparation() as progress:
                path, digest = fetch_public(checkpoint, data_root, cache, progress, handed)
            print(f"{checkpoint.name}: {path}, SHA-256 {digest}")
            if checkpoint.digest is None:
                print(f"note: {checkpoint.publisher} states no digest; the file is not verified.", file=sys.stderr)
        except DataError as error:
            failures.append(str(error))
    if failures:
        raise DataError("\n".join(failures))
    print("Licence: as their publishers state; the suite does not record it.", file=sys.stderr)
    print("Next: suite plan --grid paper_table3 --stage1 public", file=sys.stderr)


def stage1_lines(data_root: Path) -> list[str]:
    """A headline and a line per checkpoint: its name, training, and file or the command that fetches it."""
    from suite.data.download.public import public_checkpoints, reference_checkpoints

    checkpoints, references = public_checkpoints().values(), reference_checkpoints().values()
    here = sum(one.path(data_root).is_file() for one in checkpoints)
    lines = [f"{'stage1':10}{here} of {len(checkpoints)} public ResNet-50 checkpoints, ImageNet-1K"]
    for one in (*checkpoints, *references):
        path = one.path(data_root)
        location = str(path) if path.is_file() else f"suite data fetch stage1 {one.name}"
        prefix = "reference row; " * (one.objective is None)
        lines.append(f"{one.name} ({prefix}{one.trained}, {one.publisher}): {location}")
    return lines


def _of_objectives(defaults: dict[str, PublicCheckpoint]) -> list[PublicCheckpoint]:
    from methods.registry import OBJECTIVES

    return [checkpoint for objective, checkpoint in defaults.items() if objective in OBJECTIVES]
