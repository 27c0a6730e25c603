"""Full and read-only disks, torn and changed files: a clear error or the job again, never another result."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suite.cli import app
from suite.cli.select import SelectorOptions
from suite.errors import StoreError, SuiteError
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.prepare import prepare
from suite.execute.worker import run_job
from suite.jobs.identity import Job
from suite.planning.plan import Plan, data_facts
from suite.store.ledger import read_cells, record_cells
from suite.store.store import Failure, Store

SUITE = [sys.executable, "-c", "from suite.cli import main; main()"]


def plan_of(drawn: Path, runs: Path, profile: Path, cell: str = "byol/cub") -> Plan:
    changed = ["pretrain.epochs=1"] if cell == "byol/cub" else []
    return SelectorOptions("paper_table1", str(profile), drawn, runs, None, None, cell, None, changed).plan(
        obtain_inputs=False
    )


def arguments(drawn: Path, runs: Path, profile: Path) -> list[str]:
    return [
        "--grid", "paper_table1", "--profile", str(profile), "--data", str(drawn), "--runs", str(runs),
        "--only", "byol/cub", "--set", "pretrain.epochs=1",
    ]  # fmt: skip


def run(drawn: Path, runs: Path, profile: Path, expect: int = 0) -> str:
    """`suite run` as a user calls it, without a tracker."""
    done = subprocess.run(
        [*SUITE, "run", *arguments(drawn, runs, profile), "--workers", "2"],
        capture_output=True, text=True, check=False, env={**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def train(job: Job, plan: Plan) -> tuple[str, str]:
    context = JobContext(RunPaths(plan.workspace.runs, plan.workspace.cache), Device("cpu"))
    end = run_job(job, context)
    return end.outcome, end.error


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, drawn: Path, tiny_profile: Path) -> Path:
    """A store with one finished cell. Tests work on copies of it."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    run(drawn, runs, tiny_profile)
    return runs


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


def facts(runs: Path) -> dict[str, object]:
    """Whatever of a store must be the same again."""
    found: dict[str, object] = {"results.csv": (runs / "results.csv").read_text("utf-8")}
    for path in runs.glob("*/result.json"):
        result = json.loads(path.read_text("utf-8"))
        found[result["name"]] = {name: result[name] for name in ("key", "metrics", "counts", "files")}
    return found


def test_a_file_cut_at_any_byte_is_never_read_as_another(copy: Path, drawn: Path, tiny_profile: Path) -> None:
    store, jobs = Store(copy), plan_of(drawn, copy, tiny_profile).jobs
    key = jobs[1].key
    store.fail(jobs[0].key, Failure(error="why", kind="failed", traceback="..."))
    result, spec, lines, cells = store.result(key), store.spec(key), store.metrics(key), read_cells(copy)
    (copy / jobs[0].key / "result.json").unlink()
    failure = store.failure(jobs[0].key)

    for path in [
        *(copy / key / name for name in ("result.json", "job.yaml", "metrics.jsonl")),
        copy / jobs[0].key / "failure.json", copy / "grids" / "paper_table1--tiny.json",
    ]:  # fmt: skip
        whole = path.read_bytes()
        for end in range(len(whole) - 1):  # but for the closing line break
            path.write_bytes(whole[:end])
            fresh = Store(copy)
            match path.name:
                case "result.json":
                    assert fresh.result(key) is None
                    assert fresh.status(key) == "failed"
                case "job.yaml":
                    with pytest.raises(StoreError, match="damaged"):
                        fresh.spec(key)
                case "metrics.jsonl":
                    assert fresh.metrics(key) == lines[: len(fresh.metrics(key))]
                case "failure.json":
                    assert fresh.status(jobs[0].key) == "failed"
                    assert "damaged" in getattr(fresh.failure(jobs[0].key), "error", "")
                case _:
                    with pytest.raises(StoreError, match="damaged"):
                        read_cells(copy)
        path.write_bytes(whole)
    assert (store.result(key), store.spec(key), store.metrics(key)) == (result, spec, lines)
    assert (store.failure(jobs[0].key), read_cells(copy)) == (failure, cells)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(
    "name", ["result.json", "job.yaml", "metrics.jsonl", "claim.json", "env.json", "grid", "speeds"]
)
def test_commands_answer_over_a_torn_file(
    name: str, share: float, copy: Path, drawn: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    key = plan_of(drawn, copy, tiny_profile).jobs[1].key
    others = {"grid": copy / "grids" / "paper_table1--tiny.json", "speeds": copy / "throughput.jsonl"}
    path = others.get(name, copy / key / name)
    if name == "claim.json":
        path.write_text(json.dumps({"host": "a", "boot": "b", "process": 1, "token": "c"}), "utf-8")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for command in (["plan", *arguments(drawn, copy, tiny_profile)], ["status", "--all", "--runs", str(copy)]):
        answer = CliRunner().invoke(app, command)
        assert answer.exception is None or isinstance(answer.exception, SuiteError), answer.exception
        if name == "grid":
            assert "Delete it and give the `suite run` commands" in str(answer.exception)
        else:
            assert answer.exit_code == 0
            assert "finetune byol cub s0" in answer.stdout or "job.yaml is damaged" in answer.stdout
        if name == "result.json":
            assert "result.json is damaged; the job runs again" in answer.stdout


def test_the_next_run_mends_what_it_needs(copy: Path, drawn: Path, tiny_profile: Path) -> None:
    """Damaged at once: a result, the weights it started from, its metrics, its description."""
    before = facts(copy)
    pretrain, finetune, _ = plan_of(drawn, copy, tiny_profile).jobs
    result = copy / finetune.key / "result.json"
    result.write_bytes(result.read_bytes()[:-20])
    flip(copy / pretrain.key / "checkpoint" / "backbone.safetensors")
    (copy / finetune.key / "metrics.jsonl").write_text('{"epoch": 1, "st', "utf-8")
    (copy / finetune.key / "job.yaml").write_text("name: x", "utf-8")
    said = run(drawn, copy, tiny_profile)
    assert "Running 'pretrain byol cub s0' again" in said
    assert "2 jobs trained, 1 cached" in said
    assert facts(copy) == before
    assert Store(copy).spec(finetune.key) == finetune.spec
    assert len(Store(copy).metrics(finetune.key)) == 2
    assert (copy / pretrain.key / "distrusted.json").is_file()  # nobody deletes a result
    flip(copy / pretrain.key / "checkpoint" / "backbone.safetensors")
    assert "0 jobs trained, 3 cached" in run(drawn, copy, tiny_profile)  # nobody needs the weights


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_result_of_another_job_is_none(copy: Path, drawn: Path, tiny_profile: Path) -> None:
    first, second, _ = plan_of(drawn, copy, tiny_profile).jobs
    shutil.copy(copy / first.key / "result.json", copy / second.key / "result.json")
    store = Store(copy)
    assert store.result(second.key) is None
    assert first.key in getattr(store.failure(second.key), "error", "")


def test_a_failure_keeps_traceback_and_last_log_lines(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    chosen = SelectorOptions(
        "paper_table1", str(tiny_profile), drawn, tmp_path, None, None, "random/cub", None,
        ["finetune.optimizer.base_lr=1e30"],
    )  # fmt: skip
    plan = chosen.plan(obtain_inputs=False)
    prepare(plan.jobs, plan.datasets, drawn, plan.workspace.cache, lambda *_: None)
    outcome, error = train(plan.jobs[0], plan)
    assert outcome == "failed"
    failure = plan.store.failure(plan.jobs[0].key)
    assert failure is not None
    assert "Traceback" in failure.traceback
    assert "effective lr" in failure.log[-1]  # what it said last before it failed
    record_cells(plan.store, "tiny", {}, plan.cell_jobs, data_facts(plan))
    shown = CliRunner().invoke(app, ["status", "--runs", str(tmp_path)]).stdout
    assert error in shown
    assert failure.log[-1] in shown
    reasons = {planned.job.name: planned.reason for planned in plan.explain()}
    assert reasons["finetune random cub s0"] == f"failed before: {error}"


@contextmanager
def full_from(write: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The disk is full from the given write to disk on. Yields the number of writes so far."""
    real, count = os.fsync, [0]

    def fsync(handle: int) -> None:
        count[0] += 1
        if count[0] > write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield count


def test_a_disk_that_is_full_at_any_write_fails_the_job_and_harms_nothing(
    tmp_path: Path, drawn: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = plan_of(drawn, tmp_path / "straight", tiny_profile, "random/cub")
    prepare(straight.jobs, straight.datasets, drawn, tmp_path / "cache", lambda *_: None)
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    job = straight.jobs[0]
    with full_from(10**9, monkeypatch) as count:
        assert train(job, straight) == ("done", "")
    writes = count[0]
    assert writes >= 5
    expected = straight.store.result(job.key)
    for write in range(writes):
        plan = plan_of(drawn, tmp_path / str(write), tiny_profile, "random/cub")
        with full_from(write, monkeypatch):
            outcome, error = train(job, plan)
        assert (outcome, "No space left on device" in error) == ("failed", True), write
        assert "Check free space" in error
        assert plan.store.result(job.key) is None
        assert train(job, plan) == ("done", "")
        result = Store(plan.workspace.runs).result(job.key)
        assert result is not None
        assert expected is not None
        assert (result.metrics, result.files) == (expected.metrics, expected.files)
        assert not list(plan.workspace.runs.rglob("*.tmp"))


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_and_a_read_only_disk_for_the_whole_product(
    finished: Path, tmp_path: Path, drawn: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUITE_CACHE", str(tmp_path / "cache"))
    runs = tmp_path / "runs"
    with mounted(runs, "150k"):
        said = run(drawn, runs, tiny_profile, expect=1)
        assert "No space left on device" in said
        assert "Check free space" in said
    shutil.rmtree(runs)
    with mounted(runs, "50m"):
        shutil.copytree(finished, runs, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", str(runs)], check=True)
        for command in (
            ["plan", *arguments(drawn, runs, tiny_profile)],
            ["status", "--runs", str(runs)],
            ["report", "--grid", "paper_table1", "--runs", str(runs), "--no-figures", "--out", str(tmp_path / "out")],
        ):
            done = subprocess.run([*SUITE, *command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        assert "Read-only file system" in run(drawn, runs, tiny_profile, expect=2)
