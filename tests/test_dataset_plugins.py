"""Datasets from outside the project: the example in examples/, and image folders whose names have no ASCII letter."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "csv_dataset.py"
GRID = ["--grid", "paper_table1", "--method", "random"]


def suite(*arguments: str | Path, expect: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from suite.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def pictures(folder: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng([seed, len(name)]).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)


def image_folder(folder: Path) -> Path:
    pictures(folder, [f"{s}/{c}/{n}.png" for s in ("train", "test") for c in ("a", "b") for n in range(4)])
    return folder


def test_the_example_is_a_dataset_with_one_file(tmp_path: Path) -> None:
    names = [f"photos/{n}.webp" for n in range(8)]
    pictures(tmp_path, names)
    lines = [(name, "ab"[n % 2], "train" if n < 4 else "test") for n, name in enumerate(names)]
    for text, code in ((lines, 0), ([*lines, (names[0], "a", "dev")], 2)):
        with (tmp_path / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("file", "label", "split"), *text])
        command = ["data", "verify", "table", "--plugin", EXAMPLE, "--runs", tmp_path / "runs"]
        done = suite(*command, expect=code, CSV_DATASET=str(tmp_path))
        expected = "From a table complete: 4/4 train, 4/4 test, 2/2 classes: in order"
        assert (expected if code == 0 else "labels.csv:10: expected train or test") in done.stdout + done.stderr
    assert len(EXAMPLE.read_text("utf-8").splitlines()) < 35


def test_a_name_without_ascii_survives_to_table_and_files(tmp_path: Path, tiny_profile: Path) -> None:
    folders = [image_folder(tmp_path / name) for name in ("鳥", unicodedata.normalize("NFD", "Öl"))]
    plugins = [argument for folder in folders for argument in ("--plugin", folder)]
    where = [*GRID, "--runs", tmp_path / "runs", *plugins]
    typed = ["--dataset", "鳥", "--dataset", unicodedata.normalize("NFD", "öl")]
    light = ["--set", "localisation=null", "--set", "background=null"]
    done = suite("run", *where, "--profile", tiny_profile, *typed, *light)
    assert "2 cells" in done.stdout
    with (tmp_path / "runs/results.csv").open(encoding="utf-8", newline="") as file:
        assert {line["dataset"] for line in csv.DictReader(file)} == {"鳥", "öl"}
    report = suite("report", *GRID[:2], "--runs", tmp_path / "runs", *plugins, "--no-figures")
    page = (tmp_path / "runs/report/index.html").read_text("utf-8")
    for name in ("鳥", "Öl"):
        assert name in report.stdout
        assert name in page
    assert 'id="cell-paper_table1-random-鳥"' in page
    assert 'id="cell-paper_table1-random-öl"' in page


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("My Birds", "my-birds"), "'my-birds' gives the dataset name 'my_birds', which exists already"),
        (("!!",), "'!!' has no letter and no digit"),
        (("CUB",), "'CUB' gives the dataset name 'cub', which exists already"),
    ],
)
def test_names_that_collapse_are_refused_by_name(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    plugins = [argument for name in names for argument in ("--plugin", image_folder(tmp_path / name))]
    done = suite("plan", *GRID, *plugins, "--runs", tmp_path / "runs", expect=2)
    assert message in " ".join(done.stderr.split())


def test_plan_and_list_say_what_is_left_out(tmp_path: Path, drawn: Path) -> None:
    folder = image_folder(tmp_path / "wild")
    (folder / "train/a/new.heic").write_bytes(b"x")
    command = ["plan", *GRID, "--dataset", "wild", "--plugin", folder, "--runs", tmp_path / "runs"]
    assert "warning wild: 1 files are pictures or films in formats that Pillow does not read" in suite(*command).stdout
    assert "new.heic" in json.loads(suite(*command, "--json").stdout)["findings"]["wild"][0]
    (tmp_path / "data/coco/train2017").mkdir(parents=True)
    pictures(tmp_path / "data/coco/train2017", ["1.jpg", "._1.jpg"])
    listed = suite("data", "list", "--data", tmp_path / "data", "--runs", tmp_path / "runs").stdout
    assert "note: 1 hidden or companion files are left out: 'train2017/._1.jpg'" in listed
