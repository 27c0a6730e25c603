"""One table of measured cells with the published numbers beside them: what is printed, before anything is rounded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from analysis.statistics.comparisons import Comparison
from suite.data.catalogue import DATASETS
from suite.grid.spec import Row

Key = tuple[str, str]  # (row name, dataset name)
PUBLISHED = "Published (paper, ResNet-50)"  # all the poster states of its protocol; it names no input size
MINUS_PUBLISHED = "Measured minus published"


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the table. Nothing is rounded. A published cell has neither spread nor counts."""

    mean: float  # percent, over seeds
    std: float | None  # sample standard deviation over seeds (ddof = 1); None with one seed
    seeds: int | None
    n: int | None  # test images
    delta: float | None  # mean - mean of the reference row on this dataset; None where the reference is missing
    is_best: bool  # the highest mean of its column and block; never where the column holds one number only
    suspicious: bool = False  # chance level or collapse: printed with a dagger
    is_second: bool = False  # the second highest mean, of three or more
    interval: tuple[float, float] | None = None  # 95 % t interval of the mean over seeds; None with one seed
    oracle: bool = False  # trained with saliency from annotations
    outdated: bool = False  # run with other settings than grid and profile have now
    printed_delta: float | None = None  # of a published cell: the difference as it was printed

    @property
    def marks(self) -> str:
        """The signs beside the number; the notes explain them."""
        signs = {"\N{DAGGER}": self.suspicious, "\N{DOUBLE DAGGER}": self.oracle, "\N{SECTION SIGN}": self.outdated}
        return "".join(sign for sign, applies in signs.items() if applies)

    @property
    def misprinted(self) -> bool:
        """Whether the printed difference is not that of the printed accuracies (to two decimals, as both are)."""
        if self.printed_delta is None or self.delta is None:
            return False
        return abs(self.printed_delta - self.delta) > 0.006


@dataclass(frozen=True, slots=True)
class Table:
    """Rows x datasets of measured cells, and the published numbers for the same rows as a block of their own."""

    name: str  # the grid's
    title: str
    profile: str | None  # None: there is no result yet
    protocol: str
    metric: str
    reference: str  # label of the row the deltas refer to
    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    cells: Mapping[Key, Cell | None]  # every (row, dataset); None is a hole
    published: Mapping[Key, Cell]  # only what was published
    notes: tuple[str, ...]  # sentences for the caption
    data: Mapping[str, str]  # dataset -> what was used of it, such as "CUB subset: 600/5994 train, ..."
    partial: Collection[str] = ()  # datasets of which not all was used, or drawn by a program: their heading has a star
    drawn: Collection[str] = ()  # those drawn: nothing published is subtracted from their numbers
    comparisons: tuple[Comparison, ...] = ()  # tests against the reference row
    remarks: Mapping[Key, str] = field(default_factory=dict)  # per cell: why it is a hole, or suspicious, or outdated

    @property
    def shows_stage2(self) -> bool:
        """Whether some rows skip the second stage, so that a column has to say which."""
        return any(row.objective is not None and not row.stage2 for row in self.rows)

    @property
    def published_rows(self) -> tuple[Row, ...]:
        """The rows of the published block: those with a published number on any of the datasets."""
        return tuple(
            row for row in self.rows if any((row.name, dataset) in self.published for dataset in self.datasets)
        )

    @property
    def minus_published(self) -> dict[Key, float]:
        """Measured - published, in points, where both exist and the data are photographs."""
        return {
            key: cell.mean - self.published[key].mean
            for key, cell in self.cells.items()
            if cell is not None and key in self.published and key[1] not in self.drawn
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """The datasets as printed."""
        return tuple(DATASETS[name].heading(name in self.drawn) for name in self.datasets)

    @property
    def published_heading(self) -> str:
        """Above the published block; its numbers are of photographs whatever the columns' headings say."""
        return PUBLISHED if not self.drawn else PUBLISHED.replace(")", ", photographs)")
