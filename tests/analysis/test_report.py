"""Reports of stores as they come: grids and profiles mixed, edited grids, failures, nothing finished, lost weights."""

from __future__ import annotations

import csv
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.cam.options import CamOptions
from analysis.report import grids_run, write_report
from suite.errors import UsageError
from suite.grid.cells import Cell, Selection
from suite.grid.spec import EXPERIMENTS
from suite.store.store import Store
from suite.workspace import Workspace

from .made_store import SUBSET, fill, made_up

ROWS = ("random", "byol", "byol_cvsa")


def report(
    runs: Path, grid: str = "paper_table1", profile: str | None = None
) -> tuple[str, dict[tuple[str, str], dict[str, str]]]:
    """The text of caption and setup, and the CSV's lines by row and dataset."""
    out = runs.parent / "out"
    write_report(Workspace(runs.parent, runs), grid, profile, out, None)
    name = Path(grid).stem
    tex = (out / f"{name}.tex").read_text()
    caption = re.search(r"\\caption\[.*?\]\{(.*)\}\n", tex)
    setup = re.search(r"\n +\\suitesetup\{(.*)\}\n", tex)
    assert caption
    assert setup
    with (out / f"{name}.csv").open(newline="") as file:
        return f"{caption[1]} {setup[1]}", {(line["row"], line["dataset"]): line for line in csv.DictReader(file)}


def selection(*datasets: str, seeds: tuple[int, ...] = (0, 1, 2), **overrides: Any) -> Selection:
    paths = {name.replace("__", "."): value for name, value in overrides.items()}
    return Selection(datasets=datasets, methods=ROWS, seeds=seeds, overrides=paths)


def test_several_profiles_in_one_store_are_never_mixed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    fill(runs, "paper_table1", selection("cub"))
    fill(runs, "paper_table1", selection("cub", "cars"), profile="demo", value=lambda cell: 10 + made_up(cell) / 10)
    fill(runs, "ss_scale", Selection(methods=("byol",), seeds=(0,)), value=lambda cell: 99.0)
    with pytest.raises(UsageError, match=r"profiles demo, small in .* Choose one: --profile NAME"):
        report(runs)
    small, lines = report(runs, profile="small")
    assert "Profile small: not the paper's protocol" in small
    assert {key[1] for key in lines} == {"cub"}
    assert all(55 < float(line["mean"]) < 75 for line in lines.values())  # neither demo's nor the other grid's
    demo, lines = report(runs, profile="demo")
    assert "Profile demo" in demo
    assert {key[1] for key in lines} == {"cub", "cars"}
    with pytest.raises(UsageError, match="not run with profile 'paper'"):
        report(runs, profile="paper")


def test_nothing_finished_gives_a_table_of_holes_that_says_why(tmp_path: Path) -> None:
    fill(tmp_path / "runs", "paper_table1", selection("cub", seeds=(0,)), value=lambda cell: None)
    caption, lines = report(tmp_path / "runs")
    assert "No results yet. Failed: Random init, BYOL, BYOL+CVSA." in caption
    assert {line["mean"] for line in lines.values()} == {""}
    reason = "seed 0 failed (pretrain byol cub s0: TrainingError: the loss became nan at step 3)"
    assert lines["byol", "cub"]["remark"] == reason


def test_a_failed_seed_a_suspicious_one_and_an_oracle_are_marked_and_explained(tmp_path: Path) -> None:
    def value(cell: Cell) -> float | None:
        return None if cell.id == "byol/cars/1" else made_up(cell)

    chosen = selection("cub", "cars", saliency__detector="masks")
    fill(
        tmp_path / "runs", "paper_table1", chosen, value=value, suspicious={"byol/cub/2": "embedding_std 0.001 is low"}
    )
    caption, lines = report(tmp_path / "runs")
    assert "Fewer seeds: BYOL on Cars (2)." in caption
    assert "seed 1 failed" in lines["byol", "cars"]["remark"]
    assert lines["byol", "cub"]["marks"] == "suspicious"
    assert lines["byol", "cub"]["remark"] == "suspicious: embedding_std 0.001 is low"
    assert lines["byol_cvsa", "cub"]["marks"] == "oracle"
    assert lines["byol", "cars"]["marks"] == ""  # it reads no saliency
    for needed in (
        r"$\dagger$: suspicious",
        r"$\ddagger$: trained with saliency from annotations",
        "*: a subset of the official",
    ):
        assert needed in caption
    assert "Saliency: masks, an oracle from annotations" in caption
    assert r"Changed with --set: saliency.detector=masks (all cells)" in caption.replace("-{}-", "--")
    assert caption.count("CUB subset") == 2  # one per dataset, not one per cell


def test_changed_settings_are_written_as_yaml(tmp_path: Path) -> None:
    fill(tmp_path / "runs", "paper_table1", selection("cub", background=None))
    caption, _ = report(tmp_path / "runs")
    assert "Changed with --set: background=null (all cells)" in caption.replace("-{}-", "--")


def test_a_row_edited_after_running_is_marked(tmp_path: Path) -> None:
    content = yaml.safe_load((EXPERIMENTS / "grids" / "paper_table1.yaml").read_text())
    grid = tmp_path / "mine.yaml"
    grid.write_text(yaml.safe_dump(content | {"name": "mine", "published": None}))
    fill(tmp_path / "runs", str(grid), selection("cub", "cars"))
    caption, lines = report(tmp_path / "runs", str(grid))
    assert "settings that differ" not in caption
    for row in content["rows"]:
        if row["name"] == "byol_cvsa":
            row["views"], row["alignment"] = "dilo", False
        if row["name"] == "byol":
            row["set"] = {"pretrain.epochs": 7}
    rows = [row for row in content["rows"] if row["name"] != "random"]
    grid.write_text(yaml.safe_dump(content | {"name": "mine", "published": None, "rows": rows, "datasets": ["cub"]}))
    caption, lines = report(tmp_path / "runs", str(grid))
    assert r"$\mathsection$: run with settings that differ from the current grid or profile" in caption
    assert "alignment one, now none" in lines["byol_cvsa", "cub"]["remark"]
    assert "pretrain.epochs 40, now 7" in lines["byol", "cub"]["remark"]
    assert [key for key, line in lines.items() if line["marks"]] == [("byol", "cub"), ("byol_cvsa", "cub")]
    assert "Left out" in caption
    assert "random on cub" in caption
    assert "byol on cars" in caption


def test_a_cell_whose_seeds_differ_in_their_settings_is_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path / "runs", "paper_table1", selection("cub", seeds=(0,)))
    fill(tmp_path / "runs", "paper_table1", selection("cub", seeds=(1,), pretrain__epochs=9))
    with pytest.raises(UsageError) as error:
        report(tmp_path / "runs")
    for needed in ("byol/cub, seeds 0 and 1: pretrain.epochs 40 and 9", "byol_cvsa/cub", "--only byol/cub"):
        assert needed in str(error.value)
    assert "random" not in str(error.value)  # it has no pretraining


def test_lost_weights_cost_a_figure_not_a_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    planned = fill(tmp_path / "runs", "paper_table1", selection("cub", seeds=(0,)))
    with caplog.at_level(logging.WARNING):
        written = write_report(
            Workspace(tmp_path, tmp_path / "runs"), "paper_table1", None, tmp_path / "out", CamOptions(count=2)
        )
    assert "No Grad-CAM of byol/cub/0" in caplog.text
    assert not [path for path in written.files if "gradcam" in path.name]
    job = planned[1].finetune
    (Store(tmp_path / "runs").folder(job.key) / "result.json").unlink()
    caption, lines = report(tmp_path / "runs")
    assert "No result yet: BYOL." in caption
    assert lines["byol", "cub"]["remark"] == "seed 0 not finished"


def test_tests_against_the_reference_are_in_words_and_in_a_file(tmp_path: Path) -> None:
    def value(cell: Cell) -> float:
        return 60 + {"random": -3, "byol": 0, "byol_cvsa": 2}[cell.row.name] + cell.seed / 10

    fill(tmp_path / "runs", "paper_table1", selection("cub", "nabirds", "aircraft", "cars"), value=value)
    caption, _ = report(tmp_path / "runs")
    assert "sign-flip test of 12 independent differences, two-sided, Holm-corrected for 2 rows" in caption
    assert r"better BYOL+CVSA (+2.00, p \textless{} .001); worse Random init ($-$3.00, p" in caption
    with (tmp_path / "out" / "paper_table1_tests.csv").open(newline="") as file:
        tests = list(csv.DictReader(file))
    assert [line["row"] for line in tests] == ["random", "byol_cvsa"]
    assert {float(line["p"]) for line in tests} == {2 / 2**12}
    assert {float(line["p_holm"]) for line in tests} == {4 / 2**12}
    fill(tmp_path / "runs", "paper_table2", Selection(("cub", "cars"), methods=("byol", "byol_cvsa"), seeds=(0, 1, 2)))
    caption, _ = report(tmp_path / "runs", "paper_table2")
    assert "Not tested against BYOL without stage 2: 3 independent differences are too few" in caption


def test_tests_on_single_datasets_name_rows_or_count_cells(tmp_path: Path) -> None:
    def value(cell: Cell) -> float:  # BYOL+CVSA's differences: 2 and some; Random's: around 0
        noise = (0.1, -0.1, 0.05, -0.05, 0.0)[cell.seed]
        return 60 + {"random": 20 * noise, "byol": 0, "byol_cvsa": 2 + noise}[cell.row.name]

    five = (0, 1, 2, 3, 4)
    fill(tmp_path / "runs", "small_study", selection("cub", seeds=five), value=value)
    caption, _ = report(tmp_path / "runs", "small_study")
    assert (
        r"Holm-corrected for 2 rows, 5 \%): better BYOL+CVSA (+2.00, p \textless{} .001); undecided the other 1"
        in caption
    )
    fill(tmp_path / "runs", "paper_table1", selection("cub", "cars", seeds=five), value=value)
    caption, _ = report(tmp_path / "runs")
    assert r"Holm-corrected for 4 cells, 5 \%): 2 better, 0 worse, 2 undecided" in caption


def test_data_that_changed_between_cells_are_all_named(tmp_path: Path) -> None:
    fill(tmp_path / "runs", "paper_table1", Selection(methods=("random",), datasets=("cub",), seeds=(0,)))
    other = SUBSET | {"describe": "CUB subset: 601/5994 train, 528/5794 test, 20/200 classes"}
    fill(tmp_path / "runs", "paper_table1", Selection(methods=("byol",), datasets=("cub",), seeds=(0,)), facts=other)
    caption, lines = report(tmp_path / "runs")
    assert "600/5994" in caption
    assert "601/5994" in caption
    assert "600/5994" in lines["byol", "cub"]["data"]
    assert "601/5994" in lines["byol", "cub"]["data"]
    assert json.loads((tmp_path / "runs" / "grids" / "paper_table1--small.json").read_text())


def test_the_caption_states_the_recipe_as_it_was_run(tmp_path: Path) -> None:
    """A --set must not be contradicted by a description of the profile."""
    fill(tmp_path / "runs", "paper_table1", selection("cub", seeds=(0,), image_size=32))
    caption, _ = report(tmp_path / "runs")
    assert "Network: resnet10, width 32, 32 px, 40 epochs of pretraining, 40 epochs of fine-tuning." in caption
    assert "96 px" not in caption


def ledger_of(runs: Path) -> Path:
    return runs / "grids" / "paper_table1--small.json"


def test_the_order_in_which_cells_were_recorded_does_not_matter(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    marks = {"byol/cub/0": "one reason", "byol/cub/1": "another reason"}
    fill(runs, "paper_table1", selection("cub", "cars", seeds=(0, 1)), suspicious=marks)
    expected = report(runs)
    assert expected[1]["byol", "cub"]["remark"] == "suspicious: one reason; another reason"
    ledger_of(runs).write_text(json.dumps(json.loads(ledger_of(runs).read_text())[::-1]))
    assert report(runs) == expected


def test_seeds_that_start_from_different_checkpoints_are_refused(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    fill(runs, "paper_table1", selection("cub", seeds=(0, 1)))
    entries = json.loads(ledger_of(runs).read_text())
    entries[3]["stage1_checkpoint"] = {"name": "other.pth", "sha256": "0" * 64}
    ledger_of(runs).write_text(json.dumps(entries))
    with pytest.raises(UsageError, match="byol/cub, seeds 0 and 1: first stages from different checkpoints"):
        report(runs)


def test_without_a_name_every_grid_that_was_run_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs = tmp_path / "runs"
    workspace = Workspace(tmp_path, runs)
    with pytest.raises(UsageError, match=r"nothing was run in .*runs\. Run a grid"):
        grids_run(workspace)
    fill(runs, "ss_scale", Selection(methods=("byol",), seeds=(0,)))
    fill(runs, "paper_table1", selection("cub"))
    own = yaml.safe_load((EXPERIMENTS / "grids" / "paper_table1.yaml").read_text()) | {"name": "own"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    fill(runs, str(tmp_path / "own.yaml"), selection("cub"))
    with caplog.at_level(logging.WARNING):
        assert grids_run(workspace) == ["paper_table1", "ss_scale"]
    assert "Left out: own, which was run from a file" in caplog.text
