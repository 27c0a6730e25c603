"""The section "Compare" of the page and the learning curves: the numbers and words of `suite compare`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from analysis.cells.learning import LearningCurves
from analysis.cells.remarks import in_order
from analysis.figures.learning import _figure, learning_figure
from analysis.page.compare import MOST_POINTS, comparisons
from analysis.page.model import RowComparison
from analysis.tables.pair import compare_rows
from suite.grid.cells import Cell, Selection
from suite.grid.spec import load_grid
from suite.store.cells import result_lines
from suite.store.ledger import read_cells
from suite.store.store import Store

from .made_store import fill

ROWS = ("random", "byol", "byol_cvsa")


def accuracies(cell: Cell) -> float:
    shift = {"random": -20.0, "byol": 0.0, "byol_cvsa": 0.5}[cell.row.name]
    return 50 + shift + (0.3, -0.2, 1.1)[cell.seed] * len(cell.row.name) / 5


def write_metrics(store: Store, grid: str) -> None:
    """40 epochs for every job; online kNN in every tenth epoch of the pretraining of BYOL."""
    for record in read_cells(store.root, grid):
        for role, key in record.roles.items():
            own = {"train_top1": 80.0} if role == "finetune" else {}
            lines = [
                {"epoch": epoch, "step": epoch, "loss": 10.0 * (record.seed + 1) / epoch, **own}
                | (
                    {"knn_held_out": float(epoch)}
                    if record.row == "byol" and role == "stage 2" and epoch % 10 == 0
                    else {}
                )
                for epoch in range(1, 41)
            ]
            path = store.folder(key) / "metrics.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("compare") / "runs"
    fill(root, "paper_table1", Selection(("cub", "cars"), ROWS, None, (0, 1, 2)), value=accuracies)
    fill(root, "label_fractions", Selection(("cub",), ("random", "byol"), None, (0,)))
    write_metrics(Store(root), "paper_table1")
    return Store(root)


def shown(store: Store, name: str = "paper_table1") -> list[RowComparison]:
    grid = load_grid(name)
    records = in_order(grid, read_cells(store.root, name))
    return comparisons(store, grid, "small", records, result_lines(store, records))


def test_every_two_rows_have_the_numbers_and_words_of_the_command(store: Store) -> None:
    pairs = shown(store)
    assert [pair.rows for pair in pairs] == [("random", "byol"), ("random", "byol_cvsa"), ("byol", "byol_cvsa")]
    for pair in pairs:
        by_command = compare_rows(store, *pair.rows, grid="paper_table1")
        assert list(pair.sentences) == by_command.sentences()
        assert [row[4] for row in pair.numbers] == [f"{part.difference:+.2f}" for part in by_command.datasets]
        low, high = by_command.datasets[1].interval
        assert pair.numbers[1][5] == f"{low:+.2f} to {high:+.2f}"
        assert pair.command == f"suite compare {pair.rows[0]} {pair.rows[1]} --grid paper_table1 --profile small"


def test_the_forest_plot_has_an_interval_per_dataset_at_its_place(store: Store) -> None:
    pair = next(pair for pair in shown(store) if pair.rows == ("random", "byol_cvsa"))
    by_command = compare_rows(store, *pair.rows, grid="paper_table1")
    ticks = {
        float(text): float(x) for x, text in re.findall(r'class="tick" x="([\d.]+)"[^>]*>(-?[\d.]+)<', pair.forest)
    }
    (low, at_low), (high, at_high) = min(ticks.items()), max(ticks.items())
    centres = [float(x) for x in re.findall(r'<circle class="\w+" cx="([\d.]+)"', pair.forest)]
    found = [low + (x - at_low) / (at_high - at_low) * (high - low) for x in centres]
    assert found == pytest.approx([part.difference for part in by_command.datasets], abs=0.1)
    assert [part.told_apart for part in by_command.datasets] == [True, True]
    assert pair.forest.count('<circle class="apart"') == 2


def test_in_a_sweep_rows_at_one_value_are_compared(store: Store) -> None:
    pairs = [pair.rows for pair in shown(store, "label_fractions")]
    assert pairs == [(f"random_{share}", f"byol_{share}") for share in ("0.15", "0.3", "0.5", "1")]


def test_learning_curves_are_those_of_both_rows_with_online_knn_where_it_was_logged(store: Store) -> None:
    records = read_cells(store.root, "paper_table1")
    pair = compare_rows(store, "byol", "byol_cvsa", grid="paper_table1")
    panels = LearningCurves(store, records).panels(pair)
    loss, _, knn, _, top1, _ = panels
    assert [panel.measure.partition(" ")[0] for panel in panels] == [
        w for w in ("Pretraining", "kNN", "Fine-tuning:") for _ in "12"
    ]
    assert [(line.row, line.seed) for line in loss.lines] == [(row, seed) for row in (0, 1) for seed in (0, 1, 2)]
    assert loss.lines[2].points[:2] == ((1.0, 30.0), (2.0, 15.0))
    assert {line.row for line in knn.lines} == {0}
    assert knn.lines[0].points == ((10.0, 10.0), (20.0, 20.0), (30.0, 30.0), (40.0, 40.0))
    assert {value for line in top1.lines for _, value in line.points} == {80.0}
    figure = _figure(pair, panels)
    assert [len(axes.lines) for axes in figure.axes] == [6, 6, 3, 3, 6, 6]
    assert [text.get_text() for text in figure.legends[0].texts] == ["byol", "byol_cvsa"]


def test_curves_on_the_page_are_thinned_and_end_with_the_last_epoch(store: Store) -> None:
    title, svg = shown(store)[2].curves[0]
    assert title == "Pretraining loss, CUB"
    lines = re.findall(r'<polyline class="line c(\d)" points="([^"]*)"', svg)
    assert [colour for colour, _ in lines] == ["0"] * 3 + ["1"] * 3
    assert all(len(points.split()) <= MOST_POINTS for _, points in lines)
    assert "seed 2 from" in svg


def test_without_logged_metrics_there_is_no_figure(tmp_path: Path) -> None:
    fill(tmp_path, "paper_table1", Selection(("cub",), ROWS, None, (0,)), value=accuracies)
    store, pair = Store(tmp_path), compare_rows(Store(tmp_path), "byol", "random")
    assert learning_figure(pair, LearningCurves(store, read_cells(tmp_path)).panels(pair), tmp_path / "x") == []
    assert not (tmp_path / "x.pdf").exists()
