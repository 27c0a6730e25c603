"""Preparation of data is part of the run: seen by `suite status`, stopped by `suite cancel` and Ctrl-C, resumed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import suite
from suite.errors import ImageError
from suite.execute.prepare import prepare

SLOW = (
    # A shell that starts the tests in the background lets their children ignore SIGINT.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "import time\n"
    "from suite.data.saliency import maps\n"
    "real = maps.compute_one\n"
    "def slow(*args):\n"
    "    time.sleep(2)\n"
    "    real(*args)\n"
    "maps.compute_one = slow\n"
)
SUITE = [sys.executable, "-c", "from suite.cli import main; main()"]


TUNING = ["--param", "views.scale=0.2,0.4", "--sampler", "grid", "--trials", "1", "--pruner", "none"]


@pytest.mark.parametrize(
    ("command", "way"), [("run", "cancel"), ("run", "ctrl-c"), ("run", "sigterm"), ("tune", "cancel")]
)
def test_preparation_is_seen_stopped_and_resumed(
    command: str, way: str, tmp_path: Path, drawn: Path, tiny_profile: Path
) -> None:
    runs = tmp_path / "runs"
    arguments = [
        command, *(TUNING if command == "tune" else []), "--grid", "paper_table1", "--profile", str(tiny_profile),
        "--data", str(drawn), "--runs", str(runs), "--dataset", "cub", "--method", "byol_cvsa", "--set",
        "saliency.detector=spectral",
    ]  # fmt: skip
    slow = [sys.executable, "-c", f"{SLOW}from suite.cli import main; main()", *arguments]
    process = subprocess.Popen(slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (made := list(runs.rglob("maps/**/*.png"))):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    if way == "cancel":
        shown = subprocess.run([*SUITE, "status", "--runs", str(runs)], capture_output=True, text=True, check=True)
        assert f"process {process.pid} on" in shown.stdout
        assert "preparing: saliency cub" in shown.stdout
        done = subprocess.run([*SUITE, "cancel", "--runs", str(runs)], capture_output=True, text=True, check=False)
        assert "1 of 1 runs stopped" in done.stdout
    else:
        process.send_signal(signal.SIGINT if way == "ctrl-c" else signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Stopped while the data were prepared" in errors
    assert "run the same command again to resume" in output
    kept = {path: path.stat().st_mtime_ns for path in runs.rglob("maps/**/*.png")}
    assert set(made) <= kept.keys()
    assert len(kept) < 24
    again = subprocess.run([*SUITE, *arguments], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # finished maps were not computed again


def test_a_damaged_image_is_found_before_maps_are_computed(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn, data)
    folder = data / "CUB_200_2011"
    split = dict(line.split() for line in (folder / "train_test_split.txt").read_text("utf-8").splitlines())
    paths = dict(line.split() for line in (folder / "images.txt").read_text("utf-8").splitlines())
    last = folder / "images" / [paths[number] for number in paths if split[number] == "0"][-1]  # a test image
    last.write_bytes(last.read_bytes()[:300])
    plan = suite.plan(
        "paper_table1", profile=str(tiny_profile), data=data, runs=tmp_path / "runs", datasets="cub",
        methods="byol_cvsa", overrides={"saliency.detector": "spectral"},
    )  # fmt: skip
    with pytest.raises(ImageError, match=last.name):
        prepare(plan.jobs, plan.datasets, plan.data_root, plan.workspace.cache, lambda *_: None)
    assert not list(tmp_path.rglob("maps/**/*.png"))
