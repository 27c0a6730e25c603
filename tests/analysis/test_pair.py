"""`suite compare`: differences, intervals and words of two rows, from stores with made-up numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis.statistics.power import seeds_needed
from analysis.tables.pair import Pair, compare_rows
from suite.cli import app
from suite.data.catalogue import DATASETS
from suite.errors import UsageError
from suite.grid.cells import Cell, Selection
from suite.store.store import Store

from .made_store import fill

NOISE = (0.3, -0.2, -0.1)  # by seed; adds up to 0


def accuracies(cell: Cell) -> float:
    """byol: 50 on every dataset. byol_cvsa: 10 more on cub, and on cars 0.4 more with a spread of 2 over seeds."""
    shift = {"cub": 10.0, "cars": 0.4}[cell.dataset] if cell.row.name == "byol_cvsa" else 0.0
    spread = {"cub": 0.1, "cars": 2.0}[cell.dataset] if cell.row.name == "byol_cvsa" else 0.0
    return 50 + NOISE[cell.seed] + shift + spread * (cell.seed - 1)


def filled(root: Path, seeds: tuple[int, ...] = (0, 1, 2), datasets: tuple[str, ...] = ("cub", "cars")) -> Path:
    fill(root, "paper_table1", Selection(datasets, ("byol", "byol_cvsa"), None, seeds), value=accuracies)
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("pair") / "runs")


def compared(runs: Path, *rows: str, **options: str) -> Pair:
    first, second = rows or ("byol", "byol_cvsa")
    return compare_rows(Store(runs), first, second, **options)  # type: ignore[arg-type]


def test_numbers_by_hand(runs: Path) -> None:
    pair = compared(runs)
    assert (pair.grid, pair.profile, pair.protocol) == ("paper_table1", "small", "finetune")
    cub, cars = pair.datasets
    assert (cub.first, cub.second, cub.seeds, cub.n) == (pytest.approx(50), pytest.approx(60), (0, 1, 2), 528)
    half = 4.302652729911275 * 2 / math.sqrt(3)  # t of two degrees of freedom at .975, deviation 2
    assert cars.interval == pytest.approx((0.4 - half, 0.4 + half))
    assert (cub.told_apart, cars.told_apart, cars.over_seeds) == (True, False, True)
    assert pair.pooled is not None
    assert pair.pooled.difference == pytest.approx(5.2)
    assert compared(runs, "byol_cvsa", "byol").datasets[0].difference == pytest.approx(-10)


def test_words(runs: Path) -> None:
    cub, cars, pooled = compared(runs).sentences()
    assert cub.startswith(
        "On CUB byol_cvsa is better than byol by 10.00 points (95 % interval 9.75 to 10.25, over 3 seeds)"
    )
    assert "cannot be told apart (+0.40 points, 95 % interval -4.57 to +5.37, over 3 seeds)" in cars
    assert f"About {seeds_needed(2, 0.4) - 3} more seeds" in cars  # type: ignore[operator]
    assert "for a difference of 0.4 points" in cars
    assert "Over 2 datasets byol and byol_cvsa" in pooled
    assert "sign-flip test over 6 differences" in pooled
    assert (
        compared(runs, "BYOL_CVSA", "byol")
        .sentences()[0]
        .startswith("On CUB byol_cvsa is better than byol by 10.00 points (95 % interval 9.75")
    )
    assert "would probably have been found" in compared(runs).sentences(50.0)[1]
    assert "More than 1000 seeds would be needed" in compared(runs).sentences(0.01)[1]


def test_one_seed_has_the_interval_of_the_test_images(tmp_path: Path) -> None:
    pair = compared(filled(tmp_path, seeds=(1,)))
    cub, cars = pair.datasets
    assert (cub.over_seeds, cub.std, cub.more_seeds(), pair.pooled) == (False, None, None, None)
    words = pair.sentences()
    assert "from 528 test images alone" in words[0]
    assert "run more seeds" in words[0]
    assert "With one seed" in words[1]
    assert cars.interval[0] < 0 < cars.interval[1]


def test_other_protocols_and_common_seeds(runs: Path, tmp_path: Path) -> None:
    pair = compared(runs, protocol="knn")
    assert pair.datasets[0].difference == pytest.approx(5)  # the made-up kNN is half of the accuracy
    filled(tmp_path, seeds=(0, 1))
    fill(tmp_path, "paper_table1", Selection(("cub",), ("byol",), None, (2,)), value=accuracies)
    assert compared(tmp_path).datasets[0].seeds == (0, 1)


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (("byol", "byol_csva"), {}, "did you mean 'byol_cvsa'"),
        (("byol", "BYOL"), {}, "expected two rows, got 'byol' twice"),
        (("byol", "byol_cvsa"), {"grid": "paper_table2"}, "unknown grid 'paper_table2'"),
        (("byol", "byol_cvsa"), {"protocol": "knnn"}, "did you mean 'knn'"),
        (("byol", "byol_cvsa"), {"profile": "paper"}, "but with: small"),
        (("byol", "byol_cvsa"), {"datasets": ["aircraft"]}, "unknown dataset 'aircraft'"),
    ],
)
def test_mistakes(rows: tuple[str, str], options: dict[str, str], said: str, runs: Path) -> None:
    with pytest.raises(UsageError, match=said):
        compared(runs, *rows, **options)


def test_several_grids_and_an_empty_store(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing was run in"):
        compared(tmp_path)
    fill(tmp_path, "paper_table1", Selection(("cub",), ("byol", "byol_cvsa"), None, (0,)))
    fill(tmp_path, "paper_table2", Selection(("cub",), ("byol", "byol_cvsa"), None, (0,)))
    with pytest.raises(UsageError, match="Choose one: --grid NAME"):
        compared(tmp_path)


def test_no_common_seed(tmp_path: Path) -> None:
    fill(tmp_path, "paper_table1", Selection(("cub",), ("byol",), None, (0,)))
    fill(tmp_path, "paper_table1", Selection(("cub",), ("byol_cvsa",), None, (1,)))
    with pytest.raises(UsageError, match="Run both with the same --seeds"):
        compared(tmp_path)


def test_command(runs: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", "byol", "byol_cvsa", "--runs", str(runs), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert DATASETS["cars"].label in done.output
    assert (tmp_path / "paper_table1_byol_byol_cvsa_finetune.pdf").is_file()
    assert not list(tmp_path.glob("*learning*"))  # no job of this store logged an epoch
    done = CliRunner().invoke(app, ["compare", "byol", "byol_cvsa", "--runs", str(runs), "--json", "--dataset", "CARS"])
    assert [part["dataset"] for part in json.loads(done.stdout)["datasets"]] == ["cars"]


def test_seeds_needed_find_the_difference_as_often_as_they_say() -> None:
    seeds = seeds_needed(std=1.0, difference=0.8)
    assert seeds is not None
    rng = np.random.default_rng(0)
    samples = rng.normal(0.8, 1.0, (20_000, seeds))
    t = samples.mean(axis=1) / samples.std(axis=1, ddof=1) * math.sqrt(seeds)
    critical = {15: 2.1447866879}[seeds]  # of 14 degrees of freedom at .975
    assert 0.79 < np.mean(t > critical) < 0.85
    with pytest.raises(ValueError, match="positive std"):
        seeds_needed(0.0, 1.0)
