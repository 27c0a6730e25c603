"""A dataset from a table: `labels.csv` in $CSV_DATASET has the columns file, label and split (train or test)."""

import csv
import os
from pathlib import Path

from suite.data.record import Dataset, Record
from suite.errors import DataError
from suite.plugin import register_dataset


def parse(root: Path) -> Dataset:
    """Read the table; the suite then checks that every file is there."""
    with (root / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    classes = tuple(sorted({line["label"] for line in lines}))
    records: dict[str, list[Record]] = {"train": [], "test": []}
    for number, line in enumerate(lines, 2):
        if line["split"] not in records:
            raise DataError(f"{root / 'labels.csv'}:{number}: expected train or test, got '{line['split']}'")
        path = line["file"].replace("\\", "/")
        records[line["split"]].append(Record(path, path, classes.index(line["label"]), box=None))
    return Dataset("table", root, tuple(records["train"]), tuple(records["test"]), classes)


register_dataset("table", Path(os.environ["CSV_DATASET"]), parse, label="From a table", licence="my own photographs")
