"""Published numbers, from experiments/published: those of the paper, and those of other works (comparators)."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from suite.errors import unknown
from suite.grid.spec import EXPERIMENTS

Published = Literal["paper", "all", "none"]  # the paper's numbers beside the measured ones; other works' too; neither
_Place = tuple[str, str, str, str, str, str]  # the first six fields of a Comparator
COMPARATORS = "Published by others, by other protocols"


@dataclass(frozen=True, slots=True)
class Comparator:
    """The numbers of one published row."""

    method: str
    pretraining: str  # images, and whose labels
    protocol: str  # finetune, linear
    setting: str  # the protocol in words
    source: str
    note: str
    numbers: Mapping[str, float]  # dataset -> percent
    mark: str = ""  # letter of the footnote; rows of one protocol and source share it

    @property
    def label(self) -> str:
        """As printed in a table, such as ``BYOL (ImageNet-1K) [a]``."""
        return f"{self.method} ({self.pretraining}) [{self.mark}]"

    @property
    def footnote(self) -> str:
        """Protocol and source, without the mark."""
        return f"{self.setting}; {self.source}" + (f"; {self.note}" if self.note else "")


def published_choice(text: str) -> Published:
    """What `--published` names. Raises UsageError with the nearest match."""
    if text not in get_args(Published):
        raise unknown("value of --published", text, get_args(Published))
    return cast(Published, text)


def comparators(protocol: str, datasets: Collection[str]) -> tuple[Comparator, ...]:
    """The published rows of one protocol with a number on any of these datasets, each with its footnote's letter."""
    rows: dict[_Place, dict[str, float]] = {}
    for line in _lines("comparators.csv"):
        if line["protocol"] == protocol and line["dataset"] in datasets:
            place = (line["method"], line["pretraining"], protocol, line["setting"], line["source"], line["note"])
            rows.setdefault(place, {})[line["dataset"]] = float(line["top1"])
    unmarked = [Comparator(*place, numbers) for place, numbers in rows.items()]
    marks = dict(zip(dict.fromkeys(row.footnote for row in unmarked), "abcdefghijklmnopqrstuvwxyz", strict=False))
    return tuple(replace(row, mark=marks[row.footnote]) for row in unmarked)


def footnotes(rows: Collection[Comparator]) -> tuple[str, ...]:
    """One sentence per footnote of these rows."""
    return tuple(f"[{mark}] {text}." for mark, text in dict.fromkeys((row.mark, row.footnote) for row in rows))


def published_numbers(table: str) -> dict[tuple[str, str], float]:
    """The paper's top-1 for one table: {(row name, dataset name): percent}. Source: see the CSV's header lines."""
    return {(line["row"], line["dataset"]): float(line["top1"]) for line in _published(table)}


def printed_deltas(table: str) -> dict[tuple[str, str], float]:
    """The differences to BYOL as the paper prints them beside its accuracies, some of which disagree with those."""
    return {
        (line["row"], line["dataset"]): float(line["printed_delta"])
        for line in _published(table)
        if line["printed_delta"]
    }


def _published(table: str) -> list[dict[str, str]]:
    return [line for line in _lines("reference_tables.csv") if line["table"] == table]


def _lines(name: str) -> list[dict[str, str]]:
    with (EXPERIMENTS / "published" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(text for text in file if not text.startswith("#")))
