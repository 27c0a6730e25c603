"""A protocol from a plugin: one file, measured with every cell, in results.csv, table and page; its code is in keys."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "nearest_mean_protocol.py"


def suite(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from suite.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def selected(tiny_profile: Path, drawn: Path, runs: Path) -> list[str | Path]:
    return [
        *("--grid", "paper_table1", "--method", "random", "--dataset", "cub", "--profile", tiny_profile),
        *("--data", drawn, "--runs", runs),
    ]


def keys(stdout: str) -> dict[str, str]:
    return {job["name"].split()[0]: job["key"] for job in json.loads(stdout)["jobs"]}


def test_the_example_runs_and_reports(tiny_profile: Path, drawn: Path, tmp_path: Path) -> None:
    where, runs = selected(tiny_profile, drawn, tmp_path / "runs"), tmp_path / "runs"
    done = suite("run", *where, "--plugin", EXAMPLE)
    assert done.returncode == 0, done.stderr
    with (runs / "results.csv").open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["protocol"] == "nearest_mean"]
    assert {line["metric"] for line in lines} == {"top1", "top5"}
    assert all(0 < float(line["value"]) <= 100 and line["n"] == "12" for line in lines)
    again = suite("run", *where, "--plugin", EXAMPLE, "--json")
    assert json.loads(again.stdout)["trained"] == 0

    report = suite("report", "--grid", "paper_table1", "--runs", runs)  # the store remembers the plugin
    assert report.returncode == 0, report.stderr
    out = next(path.parent for path in tmp_path.rglob("paper_table1_nearest_mean.tex"))
    assert "Top-5" in (out / "paper_table1_nearest_mean.tex").read_text("utf-8")
    assert "Nearest class mean on frozen features" in (out / "index.html").read_text("utf-8")


def test_settings_and_code_are_in_the_key_and_nothing_else_changes(
    tiny_profile: Path, drawn: Path, tmp_path: Path
) -> None:
    where = selected(tiny_profile, drawn, tmp_path / "runs")
    changed = tmp_path / "nearest_mean_protocol.py"
    changed.write_text(EXAMPLE.read_text("utf-8") + "\n# edited\n", "utf-8")
    without = keys(suite("plan", *where, "--json").stdout)
    plain = keys(suite("plan", *where, "--json", "--plugin", EXAMPLE).stdout)
    cosine = "protocols.nearest_mean.distance=cosine"
    other = keys(suite("plan", *where, "--json", "--plugin", EXAMPLE, "--set", cosine).stdout)
    edited = keys(suite("plan", *where, "--json", "--plugin", changed).stdout)
    left_out = keys(suite("plan", *where, "--json", "--plugin", EXAMPLE, "--set", "protocols.nearest_mean=null").stdout)
    assert set(plain) - set(without) == {"nearest_mean"}
    assert len({plain["nearest_mean"], other["nearest_mean"], edited["nearest_mean"]}) == 3
    assert left_out == without == {kind: key for kind, key in plain.items() if kind != "nearest_mean"}


def test_a_mistyped_setting_names_the_nearest(tiny_profile: Path, drawn: Path, tmp_path: Path) -> None:
    where = selected(tiny_profile, drawn, tmp_path / "runs")
    done = suite("plan", *where, "--plugin", EXAMPLE, "--set", "protocols.nearest_mean.distanse=cosine")
    assert done.returncode == 2
    assert "did you mean 'protocols.nearest_mean.distance'" in " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def measures() -> Any:
    """The example's function `nearest_mean`, without registering anything."""
    text = EXAMPLE.read_text("utf-8").replace("\nregister_protocol(NearestMean(),", "\ndict(")
    spec = importlib.util.spec_from_loader("nearest_mean_example", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nearest_mean_example"] = module
    exec(compile(text, str(EXAMPLE), "exec"), module.__dict__)
    return module.nearest_mean


def test_the_nearest_mean_is_scikit_learns_nearest_centroid(measures: Any) -> None:
    rng = np.random.default_rng(0)
    labels, test_labels = np.arange(60) % 7, np.arange(40) % 7
    centres = rng.normal(size=(7, 5))
    train = (centres[labels] + rng.normal(size=(60, 5))).astype("float32")
    test = (centres[test_labels] + rng.normal(size=(40, 5))).astype("float32")
    expected = 100 * NearestCentroid().fit(train, labels).score(test, test_labels)
    scores = measures(*map(torch.from_numpy, (train, labels, test, test_labels)))
    assert 20 < expected < 95
    assert scores["top1"] == pytest.approx(expected)
    assert scores["top1"] < scores["top5"] <= 100
