"""Data of the accuracy table: measured and published numbers, unrounded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from analysis.cells.published import Comparator, footnotes
from analysis.statistics.comparisons import Comparison
from suite.data.catalogue import DATASETS
from suite.grid.spec import Row

Key = tuple[str, str]  # (row name, dataset name)
PUBLISHED = "Published (paper, ResNet-50)"  # the poster states no more of its protocol
MINUS_PUBLISHED = "Measured minus published"


@dataclass(frozen=True, slots=True)
class AccuracyCell:
    """One accuracy of the table, unrounded. A published one has neither spread nor counts."""

    mean: float  # percent, over seeds
    std: float | None  # sample standard deviation over seeds (ddof = 1); None with one seed
    seeds: int | None
    n: int | None  # test images
    delta: float | None  # mean - mean of the reference row on this dataset; None where the reference is missing
    is_best: bool  # highest mean of its column and block; False if the column holds one number
    suspicious: bool = False  # chance level or collapse: printed with a dagger
    is_second: bool = False  # second highest mean of at least three
    interval: tuple[float, float] | None = None  # 95 % t interval of the mean over seeds; None with one seed
    oracle: bool = False  # trained with saliency from annotations
    stale: bool = False  # its settings differ from the current grid or profile
    is_reference: bool = False  # of the reference row: its difference is printed as a dash
    is_supported: bool = False  # the 95 % interval of the difference excludes 0; only then it has a colour
    printed_delta: float | None = None  # the difference as printed in the paper; of published cells only

    @property
    def marks(self) -> str:
        """Footnote signs of the number, explained in the notes."""
        signs = {"\N{DAGGER}": self.suspicious, "\N{DOUBLE DAGGER}": self.oracle, "\N{SECTION SIGN}": self.stale}
        return "".join(sign for sign, applies in signs.items() if applies)

    @property
    def change(self) -> Literal["gain", "loss", ""]:
        """Direction of the difference where the data support it, else empty."""
        if self.delta is None or not self.is_supported:
            return ""
        return "loss" if self.delta < 0 else "gain"

    @property
    def misprinted(self) -> bool:
        """Whether the difference printed in the paper disagrees with the accuracies printed there (two decimals)."""
        if self.printed_delta is None or self.delta is None:
            return False
        return abs(self.printed_delta - self.delta) > 0.006


@dataclass(frozen=True, slots=True)
class Table:
    """Measured accuracies of rows x datasets, and the published accuracies of the same rows."""

    name: str  # the grid's
    title: str
    profile: str | None  # None: there is no result yet
    protocol: str
    reference: str  # label of the row the deltas refer to
    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    cells: Mapping[Key, AccuracyCell | None]  # every (row, dataset); None: no result
    published: Mapping[Key, AccuracyCell]  # (row, dataset) with a published number
    caption: tuple[str, ...]  # sentences below the title
    notes: tuple[str, ...]  # sentences of the box "Setup"
    data: Mapping[str, str]  # dataset -> images used, such as "CUB subset: 600/5994 train, ..."
    partial: Collection[str] = ()  # subsets and synthetic datasets; their heading has a star
    synthetic: Collection[str] = ()  # no published number is subtracted from theirs
    comparisons: tuple[Comparison, ...] = ()  # tests against the reference row
    remarks: Mapping[Key, str] = field(default_factory=dict)  # per cell: why missing, suspicious or stale
    comparators: tuple[Comparator, ...] = ()  # other works' published rows, with `suite report --published all`

    @property
    def shows_stage2(self) -> bool:
        """Whether some rows skip the second stage, which the table then has to show."""
        return any(row.objective is not None and not row.stage2 for row in self.rows)

    @property
    def published_rows(self) -> tuple[Row, ...]:
        """The rows with a published number on any of the datasets."""
        return tuple(
            row for row in self.rows if any((row.name, dataset) in self.published for dataset in self.datasets)
        )

    @property
    def minus_published(self) -> dict[Key, float]:
        """Measured - published, in percentage points, where both exist and the data are photographs."""
        return {
            key: cell.mean - self.published[key].mean
            for key, cell in self.cells.items()
            if cell is not None and key in self.published and key[1] not in self.synthetic
        }

    @property
    def footnotes(self) -> tuple[str, ...]:
        """Protocol and source of the comparators."""
        return footnotes(self.comparators)

    @property
    def labels(self) -> tuple[str, ...]:
        """Column headings of the datasets."""
        return tuple(DATASETS[name].heading(name in self.synthetic) for name in self.datasets)

    @property
    def published_heading(self) -> str:
        """Heading of the published block. It says "photographs" where the measured numbers are on synthetic images."""
        return PUBLISHED if not self.synthetic else PUBLISHED.replace(")", ", photographs)")
