"""What a run prints: plain lines are few, the live table shows every running job and loses nothing of a failure."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from suite.execute.display import JobProgress, LiveTable, PlainLines
from suite.jobs.identity import Job
from suite.kinds.registry import parse_spec


def job(kind: str = "finetune") -> Job:
    optimizer = {"name": "sgd", "base_lr": 0.1, "weight_decay": 0}
    shared = {
        "data": {"name": "cub", "fingerprint": "f", "store_size": 72}, "image_size": 64, "seed": 0, "init": None,
        "backbone": {"arch": "resnet10"},
    }  # fmt: skip
    if kind == "probe":
        return Job(parse_spec({"kind": kind, **shared, "probe": {"eval_resize": 1, "knn": None, "linear": None}}), kind)
    train = {"epochs": 50, "batch_size": 30, "optimizer": optimizer, "crop_scale": 0.5, "eval_resize": 1}
    return Job(parse_spec({"kind": kind, **shared, "train": train}), "finetune [b]yol cub s0")


def line(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "step": 3 * epoch, "loss": 1.25, "images_per_second": 10.0}


def test_plain_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    one = job()
    lines = PlainLines(1)
    lines.started(one)
    for epoch in range(1, 50):
        lines.progress(one, line(epoch))
    lines.ended(one, "done", "")
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_time_left_is_that_of_the_epochs_left() -> None:
    progress = JobProgress.of(job().spec, line(20))
    assert progress is not None
    assert progress.columns == ("20/50", "1.2500", "10/s", "4 min")  # 30 epochs of 3 steps of 30 images at 10/s: 270 s
    assert JobProgress.of(job("probe").spec, line(1)) is None


def test_live_table_shows_running_jobs_and_keeps_failures() -> None:
    table = LiveTable(total=3, expected=1e4)
    text = io.StringIO()
    table.console = Console(file=text, width=100)
    one, two = job(), job("probe")
    table.started(one)
    table.started(two)
    table.progress(one, line(20))
    table.console.print(table.table())
    shown = text.getvalue()
    for needed in ("finetune [b]yol cub s0", "20/50", "1.2500", "10/s", "4 min", "probe", "0/3 jobs", "left"):
        assert needed in shown
    table.ended(one, "failed", "ValueError: [red] went wrong")
    table.ended(two, "done", "")
    table.console.print(table.table())
    shown = text.getvalue().removeprefix(shown)
    assert "failed finetune [b]yol cub s0: ValueError: [red] went wrong" in shown
    assert "2/3 jobs" in shown
    assert "1 failed" in shown
    assert "20/50" not in shown
