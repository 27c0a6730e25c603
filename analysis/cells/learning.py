"""Learning curves of two rows, from the metrics that their jobs logged per epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from analysis.tables.pair import Pair
from suite.store.cells import CellRecord
from suite.store.store import Store

_PRETRAINING = ("stage 2", "stage 1")  # the first of them that a row has
MEASURES = (
    ("Pretraining loss", _PRETRAINING, "loss"),
    ("kNN on held-out training images (%)", _PRETRAINING, "knn_held_out"),  # as `suite tune` logs it
    ("Fine-tuning: training top-1 (%)", ("finetune",), "train_top1"),
)

Point = tuple[float, float]  # (epoch, value)


@dataclass(frozen=True, slots=True)
class Line:
    """One job: the row (0 the first, 1 the second), the seed, and a point per epoch that logged the metric."""

    row: int
    seed: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One metric of both rows on one dataset. Losses of different objectives are on different scales."""

    measure: str
    heading: str  # of the dataset
    lines: tuple[Line, ...]


class LearningCurves:
    """Reads the curves of any two rows of one grid; each job is read once."""

    def __init__(self, store: Store, records: Sequence[CellRecord]) -> None:
        self._roles = {(record.row, record.dataset, record.seed): record.roles for record in records}
        self._metrics = cache(store.metrics)
        self._logged = cache(self._read)

    def panels(self, pair: Pair) -> list[Panel]:
        """A panel per measure and dataset with a logged point, on the common seeds; measures in the order above."""
        shown = []
        for measure, roles, metric in MEASURES:
            for part in pair.datasets:
                lines = [
                    Line(place, seed, points)
                    for place, row in enumerate((pair.first, pair.second))
                    for seed in part.seeds
                    if (points := self._points((row, part.dataset, seed), roles, metric))
                ]
                if lines:
                    shown.append(Panel(measure, part.heading, tuple(lines)))
        return shown

    def _points(self, cell: tuple[str, str, int], roles: Sequence[str], metric: str) -> tuple[Point, ...]:
        of_cell = self._roles.get(cell, {})
        key = next((of_cell[role] for role in roles if role in of_cell), None)
        return () if key is None else self._logged(key, metric)

    def _read(self, key: str, metric: str) -> tuple[Point, ...]:
        lines = self._metrics(key)
        return tuple(
            (float(line["epoch"]), float(line[metric])) for line in lines if metric in line and "epoch" in line
        )
