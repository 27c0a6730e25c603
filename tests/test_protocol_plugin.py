"""A protocol from a plugin: one file, measured with every cell, in results.csv, table and page; its code is in keys."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "retrieval_protocol.py"


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
        lines = [line for line in csv.DictReader(file) if line["protocol"] == "retrieval"]
    assert {line["metric"] for line in lines} == {"rank1", "rank5", "map"}
    assert all(0 < float(line["value"]) <= 100 and line["n"] == "12" for line in lines)
    again = suite("run", *where, "--plugin", EXAMPLE, "--json")
    assert json.loads(again.stdout)["trained"] == 0

    report = suite("report", "--grid", "paper_table1", "--runs", runs)  # the store remembers the plugin
    assert report.returncode == 0, report.stderr
    out = next(path.parent for path in tmp_path.rglob("paper_table1_retrieval.tex"))
    assert "Rank-5" in (out / "paper_table1_retrieval.tex").read_text("utf-8")
    assert "Retrieval on frozen features" in (out / "index.html").read_text("utf-8")


def test_settings_and_code_are_in_the_key_and_nothing_else_changes(
    tiny_profile: Path, drawn: Path, tmp_path: Path
) -> None:
    where = selected(tiny_profile, drawn, tmp_path / "runs")
    changed = tmp_path / "retrieval_protocol.py"
    changed.write_text(EXAMPLE.read_text("utf-8") + "\n# edited\n", "utf-8")
    without = keys(suite("plan", *where, "--json").stdout)
    plain = keys(suite("plan", *where, "--json", "--plugin", EXAMPLE).stdout)
    dot = keys(
        suite("plan", *where, "--json", "--plugin", EXAMPLE, "--set", "protocols.retrieval.similarity=dot").stdout
    )
    edited = keys(suite("plan", *where, "--json", "--plugin", changed).stdout)
    left_out = keys(suite("plan", *where, "--json", "--plugin", EXAMPLE, "--set", "protocols.retrieval=null").stdout)
    assert set(plain) - set(without) == {"retrieval"}
    assert len({plain["retrieval"], dot["retrieval"], edited["retrieval"]}) == 3
    assert left_out == without == {kind: key for kind, key in plain.items() if kind != "retrieval"}


def test_a_mistyped_setting_names_the_nearest(tiny_profile: Path, drawn: Path, tmp_path: Path) -> None:
    where = selected(tiny_profile, drawn, tmp_path / "runs")
    done = suite("plan", *where, "--plugin", EXAMPLE, "--set", "protocols.retrieval.similarty=dot")
    assert done.returncode == 2
    assert "did you mean 'protocols.retrieval.similarity'" in " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def measures() -> object:
    """The example's function `retrieval`, without registering anything."""
    text = EXAMPLE.read_text("utf-8").replace("\nregister_protocol(Retrieval(),", "\ndict(")
    spec = importlib.util.spec_from_loader("retrieval_example", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["retrieval_example"] = module
    exec(compile(text, str(EXAMPLE), "exec"), module.__dict__)
    return module.retrieval  # type: ignore[attr-defined]


def test_ranks_and_average_precision_against_a_loop(measures: object) -> None:
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(30, 5)).astype("float32"), rng.integers(0, 6, 30)
    labels[0] = 99  # alone in its class: does not ask
    rank1, rank5, precisions = [], [], []
    for image in range(1, 30):
        others = [other for other in range(30) if other != image]
        others.sort(key=lambda other: -float(vectors[image] @ vectors[other]))
        hits = [labels[other] == labels[image] for other in others]
        if any(hits):
            rank1.append(any(hits[:1]))
            rank5.append(any(hits[:5]))
            places = [place for place, hit in enumerate(hits, 1) if hit]
            precisions.append(np.mean([number / place for number, place in enumerate(places, 1)]))
    scores, asked = measures(torch.from_numpy(vectors), torch.from_numpy(labels))  # type: ignore[operator]
    assert asked == len(rank1)
    expected = {"rank1": 100 * np.mean(rank1), "rank5": 100 * np.mean(rank5), "map": 100 * np.mean(precisions)}
    assert scores == pytest.approx(expected, abs=1e-6)
