"""Tables of probes, localisation and background reliance, accuracy over localisation; from results made up by hand."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

import analysis.figures.localisation as figure_module
from analysis.figures.localisation import localisation_figure
from analysis.tables.background import background_table
from analysis.tables.localisation import localisation_table
from analysis.tables.metrics import MetricTable, Number
from analysis.tables.metrics_text import to_csv, to_latex, to_text, write_metric_table
from analysis.tables.probe import probe_table
from analysis.tables.retrieval import retrieval_table
from suite.errors import UsageError
from suite.grid.cells import Selection
from suite.grid.spec import load_grid
from suite.store.cells import ResultLine
from suite.store.ledger import read_cells
from suite.store.store import Store

from .made_store import fill

GRID = load_grid("paper_table1")
SELECTION = Selection(datasets=("cub", "cars"), methods=("random", "byol"), seeds=(0, 1))


def line(row: str, dataset: str, seed: int, protocol: str, metric: str, value: float, n: int = 528) -> ResultLine:
    stage2 = "no" if row == "random" else "yes"
    return ResultLine(
        *(GRID.name, row, row, dataset, "none", stage2, "small", protocol, seed, metric, value, n),
        f"{protocol}-{row}-{dataset}-{seed}",
    )


def looks(row: str, dataset: str, seed: int, act: float, cam: float) -> list[ResultLine]:
    """The pointing game and one baseline, of which an oracle."""
    numbers = {"act_pointing": act, "cam_pointing": cam, "masks_pointing": 90.0 + seed, "cam_flat": cam / 20}
    return [line(row, dataset, seed, "localisation", metric, value) for metric, value in numbers.items()]


LOOKS = [
    *looks("random", "cub", 0, 30.0, 40.0),
    *looks("random", "cub", 1, 31.0, 42.0),
    *looks("byol", "cub", 0, 50.04, 40.5),
    *looks("byol", "cub", 1, 50.06, 40.7),
    *looks("byol", "cars", 0, 70.0, 75.0),
]
RIGHT = [
    line(r, "cub", s, "finetune", "top1", v) for r, s, v in (("random", 0, 60.0), ("byol", 0, 66), ("byol", 1, 68))
]
PROBES = [
    line(row, "cub", seed, protocol, "top1", value)
    for row, seed, knn, linear in (
        ("random", 0, 8.0, 17),
        ("random", 1, 9, 19),
        ("byol", 0, 15, 16),
        ("byol", 1, 19, 17),
    )
    for protocol, value in (("knn", knn), ("linear", linear))
]
RANKS = [
    line(row, "cub", 0, "retrieval", metric, value, n=520)
    for row, values in (("random", (10.0, 30.0, 5.0)), ("byol", (12.0, 29.0, 6.0)))
    for metric, value in zip(("rank1", "rank5", "map"), values, strict=True)
]
EXCHANGES = [
    line(row, "cub", seed, "background", metric, value)
    for row, seed, values in (("random", 0, (60, 30, 9, 50, 48.5)), ("byol", 0, (66, 40, 5, 60, 61)))
    for metric, value in zip(
        ("original", "foreground", "background_only", "mixed_same", "mixed_rand", "bg_gap"),
        (*values, values[3] - values[4]),
        strict=True,
    )
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("store")
    (planned, *_) = fill(root, "paper_table1", SELECTION, suspicious={"random/cub/0": "collapsed"})
    assert planned.protocols  # the small profile measures by default
    return Store(root)


def localised(store: Store, lines: list[ResultLine]) -> MetricTable:
    table = localisation_table(store, GRID, "small", read_cells(store.root, GRID.name), lines)
    assert table is not None
    return table


def test_localisation_is_averaged_marked_and_beside_what_needs_no_network(store: Store) -> None:
    table = localised(store, LOOKS)
    assert table.groups == (("Pointing", 2),)  # measures without a number have no column
    cub, cars = table.blocks
    random, byol = cub.rows
    assert (random.label, byol.label) == ("Random init\N{DAGGER}", "BYOL")
    act, cam = byol.numbers
    assert act is not None
    assert cam is not None
    assert act == Number(pytest.approx(50.05), pytest.approx(0.02 / 2**0.5), 2, 528, is_best=True)  # type: ignore[arg-type]
    assert not cam.is_best  # 40.6 against 41
    assert [(b.label, b.numbers[0] and b.numbers[0].mean) for b in cub.baselines] == [("Saliency masks (oracle)", 90.5)]
    assert not any(number and number.is_best for number in cars.rows[0].numbers)  # one row is no comparison
    text = " ".join(table.notes)
    for needed in ("true class", "selected on boxes of training images", "CUB 528, Cars 528", "Mean over 1/2 seeds"):
        assert needed in text
    assert "at most 3.8 % of a cell's" in text  # 75 / 20
    assert table.caption == (
        "Activation maps against official boxes, in percent.",
        "Profile small, not the paper's protocol, on subsets of the official data, mean \N{PLUS-MINUS SIGN} standard "
        "deviation over 2 seeds.",
    )
    assert "PxAP" not in text


def test_background_has_its_gap_in_points_and_says_who_told_object_from_background(store: Store) -> None:
    recorded = read_cells(store.root, GRID.name)
    table = background_table(store, GRID, "small", recorded, EXCHANGES)
    assert table is not None
    (block,) = table.blocks
    gaps = [row.numbers[-1] and row.numbers[-1].mean for row in block.rows]
    assert gaps == [1.5, -1.0]
    text = " ".join(table.notes)
    assert "by the maps of u2netp." in text
    assert "strip of background" in text
    assert "$-$1.0" in to_latex(table)
    assert localisation_table(store, GRID, "small", recorded, EXCHANGES) is None


def test_probes_stand_side_by_side_with_how_they_were_made(store: Store) -> None:
    recorded = read_cells(store.root, GRID.name)
    table = probe_table(store, GRID, "small", recorded, [*RIGHT, *PROBES])
    assert table is not None
    (block,) = table.blocks
    random, byol = ([number and (number.mean, number.is_best) for number in row.numbers] for row in block.rows)
    assert (random, byol) == ([(8.5, False), (18.0, True)], [(17.0, True), (16.5, False)])
    text = " ".join(table.notes)
    for needed in (
        "k = 20, T = 0.07",
        "selected on a held-out 20 % of the training split",
        "CUB 528",
        "Mean over 2 seeds",
    ):
        assert needed in text
    assert table.name == "paper_table1_probe"
    assert probe_table(store, GRID, "small", recorded, RIGHT) is None


def test_retrieval_counts_queries_and_names_the_similarity(store: Store, tmp_path: Path) -> None:
    table = retrieval_table(store, GRID, "small", read_cells(store.root, GRID.name), RANKS)
    assert table is not None
    best = [[number is not None and number.is_best for number in row.numbers] for row in table.blocks[0].rows]
    assert best == [[False, True, False], [True, False, True]]
    text = " ".join(table.notes)
    assert "Queries: CUB 520." in text
    assert "(cosine)" not in text  # of a plugin that measures under this name, the similarity is not known
    dot = Selection(datasets=("cub",), methods=("random", "byol"), seeds=(0,), overrides={"probe.retrieval": "dot"})
    fill(tmp_path, "paper_table1", dot)
    measured = retrieval_table(Store(tmp_path), GRID, "small", read_cells(tmp_path, GRID.name), RANKS)
    assert measured is not None
    assert "(dot product)" in " ".join(measured.notes)
    assert retrieval_table(store, GRID, "small", read_cells(store.root, GRID.name), PROBES) is None


def test_numbers_of_different_images_are_refused(store: Store) -> None:
    other = line("random", "cub", 0, "background", "original", 50, n=400)
    with pytest.raises(UsageError, match="400 and 528 test images are not comparable"):
        background_table(store, GRID, "small", read_cells(store.root, GRID.name), [*EXCHANGES[6:], other])


def test_csv_has_every_number_in_full_precision(store: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(localised(store, LOOKS)))))
    found = {(row["row"], row["dataset"], row["metric"]): row for row in rows}
    assert float(found["byol", "cub", "act_pointing"]["mean"]) == pytest.approx(50.05, abs=1e-12)
    assert found["byol", "cars", "cam_pointing"]["std"] == ""
    assert found["masks", "cub", "pointing"]["mean"] == "90.5"
    assert len(rows) == 2 * 3 + 2  # rows with two metrics, a baseline per dataset


def test_the_terminal_shows_both_maps_in_one_column(store: Store) -> None:
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(to_text(localised(store, LOOKS)))
    text = console.export_text()
    assert "Feat./CAM" in text
    assert "50.0 ±0.0/40.6 ±0.1" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-extra)")
def test_the_tables_compile_on_their_own(store: Store, tmp_path: Path) -> None:
    recorded = read_cells(store.root)
    tables = [
        localised(store, LOOKS),
        background_table(store, GRID, "small", recorded, EXCHANGES),
        probe_table(store, GRID, "small", recorded, PROBES),
        retrieval_table(store, GRID, "small", recorded, RANKS),
    ]
    for table in tables:
        assert table is not None
        tex, _ = write_metric_table(table, tmp_path)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", tex.name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        if "siunitx.sty' not found" in done.stdout:
            pytest.skip("siunitx is not installed (Debian: texlive-science)")
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Overfull" not in done.stdout


def test_accuracy_over_localisation_has_a_marker_per_row_and_bars_over_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Axes] = []
    monkeypatch.setattr(figure_module, "save", lambda figure, stem: drawn.extend(figure.axes) or [stem])
    assert localisation_figure(GRID, [*LOOKS, *RIGHT], tmp_path / "figure") == [tmp_path / "figure"]
    assert [axes.get_title() for axes in drawn] == ["CUB\nfeatures, pretrained", "CUB\nGrad-CAM, fine-tuned"]
    bars = [item for item in drawn[0].containers if isinstance(item, ErrorbarContainer)]
    assert [bar.get_label() for bar in bars] == ["Random init", "BYOL"]
    assert bars[1].lines[0].get_xydata().tolist() == [[pytest.approx(50.05), 67.0]]
    assert (bars[0].has_xerr, bars[0].has_yerr) == (True, False)  # one seed of accuracy has no spread
    assert localisation_figure(GRID, LOOKS, tmp_path / "none") == []


def test_the_figure_is_the_same_each_time(tmp_path: Path) -> None:
    first = localisation_figure(GRID, [*LOOKS, *RIGHT], tmp_path / "a")
    second = localisation_figure(GRID, [*LOOKS, *RIGHT], tmp_path / "b")
    assert [path.suffix for path in first] == [".pdf", ".png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_rows_of_a_series_share_marker_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Axes] = []
    monkeypatch.setattr(figure_module, "save", lambda figure, stem: drawn.extend(figure.axes) or [stem])
    sweep = load_grid("ss_scale")
    lines = [
        replace(line(row.name, "cub", 0, protocol, metric, 20.0 + number), grid=sweep.name)
        for number, row in enumerate(sweep.rows)
        for protocol, metric in (("localisation", "act_pointing"), ("finetune", "top1"))
    ]
    localisation_figure(sweep, lines, tmp_path / "figure")
    series = ["MoCo.v2+RRC", "BYOL+RRC", "MoCo.v2+SS", "BYOL+SS", "BYOL+SS+Align"]
    points = [bar for bar in drawn[0].containers if isinstance(bar, ErrorbarContainer)]
    assert len(points) == 26
    styles = {bar.get_label(): set[tuple[str, str]]() for bar in points}
    for bar in points:
        styles[bar.get_label()].add((str(bar.lines[0].get_color()), str(bar.lines[0].get_marker())))
    assert list(styles) == series
    assert all(len(found) == 1 for found in styles.values())
    assert len(set.union(*styles.values())) == 5
