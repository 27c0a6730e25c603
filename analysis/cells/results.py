"""Read `<runs>/results.csv`, the long format of results: one line per metric, cell and seed."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from suite.errors import UsageError
from suite.store.cells import ResultLine

if TYPE_CHECKING:
    import pandas as pd


def read_results(path: Path) -> list[ResultLine]:
    """The lines of a results.csv. Raises UsageError where the file or a column is missing."""
    if not path.is_file():
        raise UsageError(f"no results at {path}: `suite run` writes them; `--runs DIR` says where to look.")
    with path.open(encoding="utf-8", newline="") as file:
        return [ResultLine.parse(line) for line in csv.DictReader(file)]


def as_lines(results: Iterable[ResultLine] | pd.DataFrame) -> Iterable[ResultLine]:
    """The lines themselves, or those of a data frame, recognised by `to_dict` so that pandas need not load."""
    to_dict = getattr(results, "to_dict", None)
    if to_dict is None:
        return cast("Iterable[ResultLine]", results)
    return [ResultLine.parse(line) for line in to_dict("records")]
