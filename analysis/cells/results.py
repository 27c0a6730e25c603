"""The long format in which results leave the store: `<runs>/results.csv`, one line per metric, cell and seed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from suite.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class ResultLine:
    """One line of `<runs>/results.csv`: one metric of one cell and one seed."""

    grid: str
    row: str
    method: str
    dataset: str
    stage1: str  # none, coco, imagenet
    stage2: str  # yes, no
    profile: str
    protocol: str  # finetune, linear, knn, ...
    seed: int
    metric: str
    value: float  # top1: percent
    n: int  # number of test images
    key: str  # of the job that measured it

    @classmethod
    def parse(cls, line: Mapping[str, Any]) -> ResultLine:
        """From a mapping with the columns as keys, such as csv.DictReader's. Raises UsageError on a missing one."""
        missing = [field.name for field in fields(cls) if line.get(field.name) is None]
        if missing:
            raise UsageError(f"results lack the columns {missing}; expected {[f.name for f in fields(cls)]}.")
        types = {"seed": int, "value": float, "n": int}
        return cls(**{f.name: types.get(f.name, str)(line[f.name]) for f in fields(cls)})


def read_results(path: Path) -> list[ResultLine]:
    """The lines of a results.csv. Raises UsageError where the file or a column is missing."""
    if not path.is_file():
        raise UsageError(f"no results at {path}: `suite run` writes them; `--runs DIR` says where to look.")
    with path.open(encoding="utf-8", newline="") as file:
        return [ResultLine.parse(line) for line in csv.DictReader(file)]


def result_lines(results: Iterable[ResultLine] | pd.DataFrame) -> Iterable[ResultLine]:
    """Lines as they are, or those of a data frame (known by its method, so that pandas need not be imported)."""
    to_dict = getattr(results, "to_dict", None)
    if to_dict is None:
        return cast("Iterable[ResultLine]", results)
    return [ResultLine.parse(line) for line in to_dict("records")]
