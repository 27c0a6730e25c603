"""Killing workers and parents at random changes nothing but time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MONKEY = Path(__file__).with_name("monkey.py")


@pytest.mark.slow
def test_a_killed_grid_ends_as_an_undisturbed_one(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    arguments = [
        "--grid", "paper_table1", "--profile", str(tiny_profile), "--data", str(drawn), "--workers", "2",
        "--dataset", "cub", "--method", "random", "--method", "byol_cvsa", "--method", "moco_v2",
        "--set", "pretrain.epochs=150", "--set", "finetune.epochs=60",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(MONKEY), "--kills", "8", "--out", str(tmp_path), "--", *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["different"] == []
    assert report["workers"] + report["parents"] >= 4, report  # the run may be through before the eighth
    assert report["resumed_jobs"] >= 1, report
