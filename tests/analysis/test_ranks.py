"""Ranks over datasets and the critical-difference figure."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

import analysis.figures.critical_difference as module
from analysis.figures.critical_difference import critical_difference_figure
from analysis.statistics.ranks import MIN_DATASETS, MIN_ROWS, friedman_test, mean_ranks, nemenyi_test
from analysis.tables.accuracy import Table, accuracy_table
from suite.grid.spec import load_grid
from suite.store.cells import ResultLine

GRID = load_grid("paper_table1")
DATASETS = ("cub", "nabirds", "aircraft", "cars")


def table(rows: int, datasets: int, missing: tuple[str, str] = ("", "")) -> Table:
    """The rows of the grid from worst to best on every dataset, two seeds."""
    shown = itertools.product(enumerate(GRID.rows[:rows]), DATASETS[:datasets], (0, 1))
    return accuracy_table(
        GRID,
        [
            ResultLine(
                GRID.name, row.name, "m", data, "none", "yes", "small", "finetune", seed, "top1",
                40.0 + place + seed, 528, f"{row.name}-{data}-{seed}",
            )
            for (place, row), data, seed in shown
            if (row.name, data) != missing
        ],
    )  # fmt: skip


def perfect(rows: int, datasets: int) -> np.ndarray:
    """The same order of rows on every dataset: the largest differences of mean ranks that there are."""
    return np.tile(np.arange(rows, dtype=float), (datasets, 1))


def test_ranks_share_ties() -> None:
    assert mean_ranks([[50, 70, 60], [50, 60, 60]]).tolist() == [3.0, 1.25, 1.75]
    assert friedman_test(np.full((4, 3), 50.0)) == 1.0
    # Friedman's statistic by hand: 12 N / (k (k + 1)) (sum R^2 - k (k + 1)^2 / 4) = 8, chi-squared with two degrees
    assert friedman_test(perfect(3, 4)) == pytest.approx(math.exp(-8 / 2))


def test_nemenyi_has_the_critical_difference_of_the_table() -> None:
    pytest.importorskip("scikit_posthocs", reason="scikit-posthocs is not installed (extra ranks)")
    # Demšar 2006, table 5a: q = 2.343 for three rows; CD = q sqrt(k (k + 1) / (6 N))
    for datasets in (3, 4, 8):
        p = nemenyi_test(perfect(3, datasets))
        critical = 2.343 * math.sqrt(3 * 4 / (6 * datasets))
        assert (p[0, 2] <= 0.05) == (critical <= 2)
        assert (p[0, 1] <= 0.05) == (critical <= 1)


@pytest.mark.parametrize("rows", [3, 5, 10, 20])
def test_below_the_least_number_of_datasets_nothing_can_be_significant(rows: int) -> None:
    pytest.importorskip("scikit_posthocs", reason="scikit-posthocs is not installed (extra ranks)")
    assert rows >= MIN_ROWS
    assert nemenyi_test(perfect(rows, MIN_DATASETS - 1)).min() > 0.05
    assert nemenyi_test(perfect(rows, MIN_DATASETS)).min() < 0.05


def test_the_figure_joins_rows_that_cannot_be_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scikit_posthocs", reason="scikit-posthocs is not installed (extra ranks)")
    drawn: list[Axes] = []
    original = module.save
    monkeypatch.setattr(module, "save", lambda figure, stem: drawn.extend(figure.axes) or original(figure, stem))
    found = critical_difference_figure(GRID, table(3, 4), tmp_path / "ranks")
    assert [path.name for path in found.files] == ["ranks.pdf", "ranks.png"]
    (axes,) = drawn
    names = [row.label for row in GRID.rows[:3]]
    assert {text.get_text() for text in axes.texts} == {
        f"{names[2]} (1.00)",
        f"{names[1]} (2.00)",
        f"(3.00) {names[0]}",
    }
    bars = [line for line in axes.lines if line.get_linewidth() == 1.8]
    ends = sorted(tuple(sorted({float(x) for x in np.asarray(bar.get_xdata())})) for bar in bars)
    assert ends == [(1.0, 2.0), (2.0, 3.0)]  # 1 and 3 differ by more than 1.66
    assert "p = 0.018" in found.text
    assert "4 datasets are few" in found.text


def test_a_row_without_a_number_on_some_dataset_is_not_ranked(tmp_path: Path) -> None:
    pytest.importorskip("scikit_posthocs", reason="scikit-posthocs is not installed (extra ranks)")
    missing = (GRID.rows[1].name, "cars")
    found = critical_difference_figure(GRID, table(4, 4, missing), tmp_path / "ranks")
    assert f"Not ranked, without a number on some dataset: {GRID.rows[1].label}." in found.text


@pytest.mark.parametrize(("rows", "datasets"), [(2, 4), (3, 2), (0, 0)])
def test_too_few_are_not_drawn_and_the_reason_is_given(rows: int, datasets: int, tmp_path: Path) -> None:
    found = critical_difference_figure(GRID, table(rows, datasets), tmp_path / "ranks")
    assert found.files == ()
    assert "at least 3 rows with a number on each of 3 datasets" in found.text
    assert f"Here: {rows} rows and {datasets} datasets." in found.text
    assert not list(tmp_path.iterdir())


def test_sweeps_reference_rows_and_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = table(4, 4)
    assert "sweep" in critical_difference_figure(load_grid("label_fractions"), full, tmp_path / "x").text
    marked = [row.model_copy(update={"reference": "supervised"}) for row in full.rows[:2]]
    with_references = replace(full, rows=(*marked, *full.rows[2:4]))
    assert "Here: 2 rows" in critical_difference_figure(GRID, with_references, tmp_path / "x").text
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert "scikit-posthocs is not installed" in critical_difference_figure(GRID, full, tmp_path / "x").text
    assert not list(tmp_path.iterdir())
