"""Interrupted and straight runs end in the same bits; hand-over is strict; what is not finite stops a job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from safetensors.torch import load_file

from suite.cli.select import SelectorOptions
from suite.errors import TrainingError
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.prepare import prepare
from suite.execute.worker import run_job
from suite.jobs.identity import Job
from suite.kinds.pretrain import PretrainSpec
from suite.store.store import Store
from suite.training.checkpoint import load_state, save_state
from suite.training.pretrain import build_objective
from suite.training.session import Session
from suite.weights import load_backbone_state
from suite.workspace import Workspace

CPU = Device(accelerator="cpu", threads=1)


class Runs:
    """A runs folder with the data prepared and the jobs of one cell."""

    grid = "paper_table1"

    def __init__(self, root: Path, drawn: Path, profile: Path, cell: str, *overrides: str) -> None:
        plan = SelectorOptions(self.grid, str(profile), drawn, root, None, None, cell, None, list(overrides)).plan(
            obtain_inputs=False
        )
        prepare(plan.jobs, plan.datasets, drawn, root / "cache", lambda *_: None)
        self.jobs: list[Job] = [job for job in plan.jobs if job.spec.kind != "probe"]
        self.places = RunPaths(root, Workspace.of(drawn, root).cache)
        self.store = Store(root)

    def run(self, job: Job, stop_after: int | None = None, device: Device = CPU) -> tuple[str, str]:
        polls = 0

        def should_stop() -> bool:
            nonlocal polls
            polls += 1
            return stop_after is not None and polls > stop_after

        end = run_job(job, JobContext(self.places, device, should_stop))
        return end.outcome, end.error

    def tensors(self, job: Job) -> dict[str, torch.Tensor]:
        (path,) = self.store.checkpoint(job.key).glob("*.safetensors")
        return load_file(path)


def assert_same(a: Store, b: Store, job: Job) -> None:
    left, right = a.result(job.key), b.result(job.key)
    assert left is not None
    assert right is not None
    assert left.metrics == right.metrics
    assert left.files == right.files  # SHA-256 of the weights: every bit
    curves = [
        [{k: v for k, v in line.items() if k != "images_per_second"} for line in store.metrics(job.key)]
        for store in (a, b)
    ]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("cell", ["byol_cvsa/cub", "random/cub"])
@pytest.mark.parametrize("stops", [[0], [1, 0, 1]])
def test_stopping_and_resuming_changes_no_bit(
    cell: str, stops: list[int], tmp_path: Path, drawn: Path, tiny_profile: Path
) -> None:
    straight = Runs(tmp_path / "straight", drawn, tiny_profile, cell)
    broken = Runs(tmp_path / "broken", drawn, tiny_profile, cell)
    for job in straight.jobs:
        assert straight.run(job) == ("done", "")
        for stop in stops:
            assert broken.run(job, stop_after=stop)[0] == "interrupted"
            assert broken.store.status(job.key) == "interrupted"
            assert (broken.store.checkpoint(job.key) / "state.pt").is_file()
        assert broken.run(job) == ("done", "")
        assert_same(straight.store, broken.store, job)
        assert not (broken.store.checkpoint(job.key) / "state.pt").exists()


class Lives:
    """A process that forks the lives of jobs: see kill_run.py."""

    def __init__(self, profile: Path, data: Path) -> None:
        script = Path(__file__).with_name("kill_run.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(profile), str(data)],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def live(self, **wanted: Any) -> int:
        """One life: until it kills itself (die), is stopped (stop), or the job is done. Returns its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(wanted, default=str), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def lives(drawn: Path, tiny_profile: Path) -> Iterator[Lives]:
    made = Lives(tiny_profile, drawn)
    yield made
    made.process.communicate()


CHOICE = ["finetune.lr_candidates=[0.05, 0.1]"]
CELLS = [
    ("paper_table1", row, [])
    for row in ("simclr", "looc", "insloc", "byol", "byol_cvsa", "byol_dilo", "rot_pred", "rel_loc")
]

RIVALS = [("beyond", row, []) for row in ("cast", "lcr", "byol_ccrop", "barlow_twins", "vicreg", "dino", "swav")]


@pytest.mark.parametrize(
    ("grid", "row", "overrides"),
    [
        *CELLS,
        ("ss_scale", "moco_v2_ss_0.4", []),
        ("beyond", "simsiam_cvsa", []),
        *RIVALS,
        ("paper_table1", "random", CHOICE),
    ],
)
def test_sigkill_and_resume_keep_the_whole_state(
    grid: str, row: str, overrides: list[str], lives: Lives, tmp_path: Path, drawn: Path, tiny_profile: Path
) -> None:
    """The first training of a cell, or all that choose a learning rate, killed twice with SIGKILL.

    Just before the last step the checkpoint holds the same weights, momentum copies, queues and their pointers,
    optimiser, random state, running means and curve; then the same result.
    """
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    plan = SelectorOptions(grid, str(tiny_profile), drawn, straight, ["cub"], None, f"{row}/cub", None, overrides).plan(
        False
    )
    trainings = [job for job in plan.jobs if job.spec.kind != "probe"]
    for job in trainings if row in {"random", "byol_cvsa"} else trainings[:1]:
        life = partial(lives.live, grid=grid, cell=f"{row}/cub", set=overrides, job=job.key)
        ahead = partial(life, runs=broken, loaders=2)  # background loaders, against none in the straight run
        steps = 4 if "held out" in job.name else 6
        assert life(runs=straight, stop=steps - 1) == 0
        assert ahead(die=2) == -signal.SIGKILL
        assert ahead(die=2) == -signal.SIGKILL
        assert ahead(stop=steps - 3) == 0
        states = [load_state(Store(runs).checkpoint(job.key) / "state.pt") for runs in (straight, broken)]
        assert states[0] is not None
        assert states[1] is not None
        assert states[0]["step"] == states[1]["step"] == steps - 1
        curves = []
        for state in states:
            del state["seconds"]
            lines = [json.loads(line) for line in state.pop("curve").splitlines()]
            curves.append([{k: v for k, v in line.items() if k != "images_per_second"} for line in lines])
        assert curves[0] == curves[1] != []
        assert_equal(states[0], states[1], "")
        assert [life(runs=straight), ahead()] == [0, 0]
        assert_same(Store(straight), Store(broken), job)
        assert "resuming at step 2" in (broken / job.key / "log.txt").read_text()


def assert_equal(left: Any, right: Any, place: str) -> None:
    """The same structure, and tensors with the same bits."""
    assert type(left) is type(right), place
    if isinstance(left, dict):
        assert left.keys() == right.keys(), place
        for name in left:
            assert_equal(left[name], right[name], f"{place}.{name}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), place
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_equal(a, b, f"{place}[{index}]")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), place
    else:
        assert left == right, place


def test_lars_resumes_bit_identically(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    change = "pretrain.optimizer.name=lars"
    straight = Runs(tmp_path / "straight", drawn, tiny_profile, "byol/cub", change)
    broken = Runs(tmp_path / "broken", drawn, tiny_profile, "byol/cub", change)
    job = straight.jobs[0]
    assert straight.run(job)[0] == "done"
    assert broken.run(job, stop_after=2)[0] == "interrupted"
    assert broken.run(job)[0] == "done"
    assert_same(straight.store, broken.store, job)


def run_command(drawn: Path, runs: Path, profile: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-c", "from suite.cli import main; main()", "run", "--grid", "paper_table1",
        "--profile", str(profile), "--data", str(drawn), "--runs", str(runs), "--only", "byol_cvsa/cub",
        "--workers", "1", *more,
    ]  # fmt: skip


def test_kill_9_in_the_middle_of_pretraining(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    """The whole product: SIGKILL the parent while its worker trains, run the same command again, compare every bit."""
    more = ["--set", "pretrain.epochs=40"]
    environment = {**os.environ, "SUITE_CHECKPOINT_MINUTES": "0.005"}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    subprocess.run(run_command(drawn, straight, tiny_profile, *more), check=True, env=environment, capture_output=True)

    process = subprocess.Popen(
        run_command(drawn, killed, tiny_profile, *more), env=environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(killed.glob("*/checkpoint/state.pt")):
        assert process.poll() is None, "finished before a checkpoint was seen"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # the orphaned worker notices and leaves
    assert not list(killed.glob("*/result.json"))

    subprocess.run(run_command(drawn, killed, tiny_profile, *more), check=True, env=environment, capture_output=True)
    keys = sorted(path.parent.name for path in straight.glob("*/result.json"))
    assert len(keys) == 3  # pretraining, fine-tuning, probes
    for key in keys:
        a, b = Store(straight).result(key), Store(killed).result(key)
        assert a is not None
        assert b is not None
        assert (a.metrics, a.files) == (b.metrics, b.files)
    assert any("resuming at step" in path.read_text() for path in killed.glob("*/log.txt"))
    assert (straight / "results.csv").read_text() == (killed / "results.csv").read_text()


def cut(content: bytes) -> bytes:
    return content[:1000]


def one_bit(content: bytes) -> bytes:
    """A weight's bit flipped: the file still reads without complaint."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, one_bit])
def test_a_damaged_checkpoint_starts_the_job_afresh(
    damage: Callable[[bytes], bytes], tmp_path: Path, drawn: Path, tiny_profile: Path
) -> None:
    straight = Runs(tmp_path / "straight", drawn, tiny_profile, "random/cub")
    torn = Runs(tmp_path / "torn", drawn, tiny_profile, "random/cub")
    job = straight.jobs[0]
    straight.run(job)
    torn.run(job, stop_after=1)
    state = torn.store.checkpoint(job.key) / "state.pt"
    state.write_bytes(damage(state.read_bytes()))
    assert torn.run(job)[0] == "done"
    assert_same(straight.store, torn.store, job)
    assert "cannot be read" in (torn.store.folder(job.key) / "log.txt").read_text()


def test_a_loss_that_is_not_finite_stops_the_job_with_a_reason(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    runs = Runs(tmp_path, drawn, tiny_profile, "random/cub", "finetune.optimizer.base_lr=1e30")
    outcome, error = runs.run(runs.jobs[0])
    assert outcome == "failed"
    assert "the loss became" in error
    assert "Lower the learning rate" in error
    failure = runs.store.failure(runs.jobs[0].key)
    assert failure is not None
    assert "Traceback" in failure.traceback
    assert runs.store.result(runs.jobs[0].key) is None


def test_half_precision_without_a_gpu_is_refused(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    runs = Runs(tmp_path, drawn, tiny_profile, "random/cub", "finetune.precision=16-mixed")
    outcome, error = runs.run(runs.jobs[0])
    assert outcome == "failed"
    assert "--set pretrain.precision=32-true" in error


def test_changed_weights_of_a_finished_stage_are_noticed(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    runs = Runs(tmp_path, drawn, tiny_profile, "byol/cub")
    runs.run(runs.jobs[0])
    weights = runs.store.checkpoint(runs.jobs[0].key) / "backbone.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    outcome, error = runs.run(runs.jobs[1])
    assert outcome == "failed"
    assert "SHA-256" in error


def test_hand_over_is_logged_with_its_count(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    runs = Runs(tmp_path, drawn, tiny_profile, "byol/cub")
    for job in runs.jobs:
        runs.run(job)
    weights = runs.tensors(runs.jobs[0])
    log = (runs.store.folder(runs.jobs[1].key) / "log.txt").read_text()
    assert f"backbone from {runs.jobs[0].key}: {len(weights)}/{len(weights)} tensors" in log


def test_momentum_copies_start_from_the_stage_before(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    runs = Runs(tmp_path, drawn, tiny_profile, "byol/cub")
    runs.run(runs.jobs[0])
    spec = runs.jobs[0].spec
    assert isinstance(spec, PretrainSpec)
    weights = runs.tensors(runs.jobs[0])
    torch.manual_seed(5)
    second = build_objective(spec, 24, runs.store.weights(runs.jobs[0].key, "backbone.safetensors"))
    for part in ("backbone", "target_backbone"):
        state = second.get_submodule(part).state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in weights.items()), part
    torch.manual_seed(5)
    fresh = build_objective(spec, 24)
    heads = {name: t for name, t in second.state_dict().items() if name.startswith(("projector", "predictor"))}
    assert heads.keys() == {n for n in fresh.state_dict() if n.startswith(("projector", "predictor"))}
    assert all(torch.equal(fresh.state_dict()[name], tensor) for name, tensor in heads.items())  # nothing carried over


def module() -> torch.nn.Module:
    return torch.nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": None}, "missing weight"),
        ({"extra": torch.zeros(1)}, "unexpected extra"),
        ({"bias": torch.zeros(5)}, r"bias is \(5,\), expected \(2,\)"),
    ],
)
def test_hand_over_refuses_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    target = module()
    before = {name: t.clone() for name, t in target.state_dict().items()}
    tensors = {name: t for name, t in {**module().state_dict(), **change}.items() if t is not None}
    with pytest.raises(TrainingError, match=message):
        load_backbone_state(target, tensors, "abc")
    assert all(torch.equal(t, before[name]) for name, t in target.state_dict().items())


def test_the_old_state_stays_until_the_new_one_is_written(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1, "curve": ""})
    with pytest.raises(AttributeError):
        save_state(path, {"step": 2, "bad": lambda: None})  # cannot be pickled
    assert load_state(path) == {"step": 1, "curve": ""}
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_only_finished_epochs_are_in_the_metrics(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    runs = Runs(tmp_path, drawn, tiny_profile, "random/cub")
    runs.run(runs.jobs[0])
    lines = (runs.store.folder(runs.jobs[0].key) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_the_scale_of_the_loss_is_part_of_the_state(tmp_path: Path) -> None:
    """Under 16-mixed precision it has grown or shrunk since the start; a resumed run goes on with it."""

    def session() -> Session:
        fabric = Fabric(accelerator="cpu", devices=1)
        fabric.strategy.precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
        return Session(tmp_path, fabric)

    first = session()
    scaler = first.fabric.strategy.precision.scaler
    scaler.scale(torch.ones(1))  # only then it has a scale to change
    scaler.update(8.0)
    first.save({"step": 1})
    second = session()
    state = second.resume()
    assert state is not None
    second.restore(state)
    resumed = second.fabric.strategy.precision.scaler
    assert float(resumed.scale(torch.ones(1))) == 8.0
