"""Custom methods, views and datasets: the example of docs/plugins.md itself, and what goes wrong."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "align_uniform.py"
GRID = ["--grid", "paper_table1"]


def suite(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from suite.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def keys(*arguments: str | Path) -> dict[str, str]:
    """Job key per name, of a plan."""
    done = suite("plan", *arguments, "--json")
    return {job["name"]: job["key"] for job in json.loads(done.stdout)["jobs"]}


def test_the_readme_shows_the_example_and_it_is_short() -> None:
    text = EXAMPLE.read_text("utf-8")
    assert text.strip() in (ROOT / "docs" / "plugins.md").read_text("utf-8")
    assert len(text.splitlines()) < 40


def test_the_example_runs_beside_a_row_of_ours(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    where = ["--data", drawn, "--runs", tmp_path, "--profile", tiny_profile, "--dataset", "cub"]
    own = ["--set", "objective.dim=16", "--plugin", EXAMPLE]
    done = suite("run", *GRID, *where, "--method", "random", "--method", "align_uniform", *own)
    assert "2 cells: 5 jobs trained" in done.stdout
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["row"] == "align_uniform"]
    assert {line["protocol"] for line in lines} == {"finetune", "knn", "linear"}
    report = ["report", *GRID, "--runs", tmp_path, "--no-figures", "--out", tmp_path / "report"]
    assert "Align+Uniform" in suite(*report, "--plugin", EXAMPLE).stdout
    assert "Align+Uniform" in suite(*report).stdout  # the store remembers its plugins
    (tmp_path / "plugins.json").unlink()
    without = " ".join(suite(*report).stdout.split())
    assert "Left out" in without
    assert "align_uniform on cub" in without
    resolved = suite("plan", *GRID, *where, "--method", "align_uniform", *own[2:], "--resolved").stdout
    assert "uniformity: 1.0  # plugin align_uniform.py" in resolved


def test_an_edited_file_is_another_method(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    where = [*GRID, "--data", drawn, "--runs", tmp_path, "--profile", tiny_profile, "--dataset", "cub"]
    copy = tmp_path / "elsewhere" / "mine.py"
    copy.parent.mkdir()
    shutil.copy(EXAMPLE, copy)
    before, moved = keys(*where, "--plugin", EXAMPLE), keys(*where, "--plugin", copy)
    assert before == moved  # neither the file's name nor its place matters
    copy.write_text(copy.read_text("utf-8") + "\n# changed\n", "utf-8")
    after = keys(*where, "--plugin", copy)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"{kind} align_uniform cub s0" for kind in ("pretrain", "finetune", "probe")}


def test_the_new_row_has_the_stages_of_its_grid(drawn: Path, tmp_path: Path, tiny_profile: Path) -> None:
    where = ["--data", drawn, "--runs", tmp_path, "--profile", tiny_profile, "--dataset", "cub"]
    names = keys("--grid", "paper_table2", *where, "--method", "align_uniform", "--plugin", EXAMPLE)
    assert list(names) == [
        "pretrain align_uniform coco s0", "pretrain align_uniform cub s0", "finetune align_uniform cub s0",
        "probe align_uniform cub s0",
    ]  # fmt: skip


def test_an_own_view_and_an_own_dataset(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    folder = tmp_path / "My Birds"
    photographs = sorted((drawn / "CUB_200_2011" / "images").glob("*/*.jpg"))
    for photograph in photographs:
        split = "train" if photographs.index(photograph) % 3 else "test"
        place = folder / split / photograph.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(photograph, place)
    command = ["run", *GRID, "--data", drawn, "--runs", tmp_path / "runs", "--profile", tiny_profile, "--json"]
    plugins = ["--plugin", ROOT / "examples" / "whole_image_view.py", "--plugin", folder]
    done = suite(*command, *plugins, "--method", "byol_whole", "--dataset", "my_birds")
    assert json.loads(done.stdout)["trained"] == 3
    report = suite("report", *GRID, "--runs", tmp_path / "runs", *plugins, "--images", "1")
    assert "My Birds" in report.stdout
    assert "BYOL, whole images" in report.stdout


def test_alignment_trains_with_other_objectives(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    rows = "\n".join(
        f"register_row('{name}_cvsa', objective='{name}', views='saliency_swap', alignment=True)"
        for name in ("moco_v2", "simclr")
    )
    (tmp_path / "rows.py").write_text(f"from suite.plugin import register_row\n{rows}", "utf-8")
    where = [*GRID, "--data", drawn, "--runs", tmp_path / "runs", "--profile", tiny_profile, "--dataset", "cub"]
    both = ["--method", "moco_v2_cvsa", "--method", "simclr_cvsa", "--plugin", tmp_path / "rows.py"]
    suite("run", *where, *both)
    lines = [path.read_text("utf-8").splitlines() for path in (tmp_path / "runs").glob("*/metrics.jsonl")]
    assert len([text for text in lines if "align" in json.loads(text[-1])]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", "fails when it is loaded: ModuleNotFoundError"),
        ("from suite.plugin import register_row\nregister_row('byol', objective='byol')", "has already"),
        (
            "from suite.plugin import register_row\nregister_row('mine', objective='byool')",
            "did you mean 'byol'",
        ),
        (
            "from methods.args import Args\nfrom suite.plugin import register_objective\n"
            "register_objective('byol', object, Args, recipe={})",
            "exists already",
        ),
    ],
)
def test_mistakes_in_a_plugin_start_nothing(text: str, message: str, tmp_path: Path, drawn: Path) -> None:
    (tmp_path / "mine.py").write_text(text, "utf-8")
    done = suite("run", *GRID, "--data", drawn, "--runs", tmp_path, "--plugin", tmp_path / "mine.py", expect=2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*/job.yaml"))


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    done = suite("plan", *GRID, "--plugin", tmp_path / "missing", expect=2)
    assert "expects a Python file or a folder" in done.stderr
    assert "missing, which does not exist." in done.stderr
    for split, names in {"train": ("a", "b"), "test": ("a", "c")}.items():
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "1.png")
    done = suite("plan", *GRID, "--plugin", tmp_path, expect=2)
    assert "only in train: b; only in test: c" in done.stderr
