"""A study survives whatever kills it, asks for nothing twice and pays for nothing twice."""

from __future__ import annotations

import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from analysis.figures.tuning import importance
from suite.errors import UsageError
from suite.tuning.space import Parameter
from suite.tuning.study import opened

TOY = Path(__file__).with_name("toy.py")
_SPEC = importlib.util.spec_from_file_location("toy_study", TOY)
assert _SPEC is not None
assert _SPEC.loader is not None
toy: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(toy)

TRIALS = 16


def trained(root: Path) -> Counter[str]:
    return Counter((root / "trained.log").read_text("utf-8").splitlines())


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return list(toy.tune(tmp_path_factory.mktemp("calm"), TRIALS))


def test_trials_begin_with_the_profile_and_some_are_pruned(calm: list[dict[str, Any]]) -> None:
    assert [trial["number"] for trial in calm] == list(range(TRIALS))
    assert calm[0]["params"] == {"x": 0.5, "kind": "a"}
    states = Counter(trial["state"] for trial in calm)
    assert set(states) == {"complete", "pruned"}
    assert states["complete"] >= 5
    for trial in calm:
        assert (trial["value"] is None) == (trial["state"] == "pruned")
        assert (len(trial["curve"]) == toy.EPOCHS) or trial["state"] == "pruned"


def test_killed_at_random_moments_a_study_has_the_trials_of_an_undisturbed_one(
    tmp_path: Path, calm: list[dict[str, Any]]
) -> None:
    rng, kills = random.Random(1), 0
    command = [sys.executable, str(TOY), str(tmp_path), str(TRIALS)]
    for _ in range(60):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        deadline = time.monotonic() + rng.uniform(0.0, 0.3)
        log, before = tmp_path / "trained.log", 0
        before = log.stat().st_size if log.is_file() else 0
        while process.poll() is None:  # from its first sign of work on, it has up to 0.3 s to live
            if not log.is_file() or log.stat().st_size == before:
                deadline = time.monotonic() + rng.uniform(0.0, 0.3)
            elif time.monotonic() > deadline:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()
        with (tmp_path / "tuning" / "toy" / "journal.log").open("ab") as journal:
            journal.write(b'{"op_code": 4, "worker')  # as a machine that crashed may leave it
    assert kills >= 4
    assert json.loads((tmp_path / "tuning" / "toy" / "trials.json").read_text("utf-8")) == calm
    assert all(count == 1 for line, count in trained(tmp_path).items() if line.startswith("end"))


def test_more_trials_go_on_as_if_they_had_been_asked_for_at_once(tmp_path: Path, calm: list[dict[str, Any]]) -> None:
    toy.tune(tmp_path, 6)
    assert toy.tune(tmp_path, 6) == calm[:6]
    assert toy.tune(tmp_path, TRIALS) == calm
    assert toy.tune(tmp_path, 3) == calm


def test_successive_halving(tmp_path: Path) -> None:
    halved = toy.tune(tmp_path / "straight", TRIALS, pruner="halving")
    toy.tune(tmp_path / "continued", 7, pruner="halving")
    assert toy.tune(tmp_path / "continued", TRIALS, pruner="halving") == halved
    assert Counter(trial["state"] for trial in halved)["pruned"] >= 4


def test_equal_values_cost_nothing(tmp_path: Path) -> None:
    space = (Parameter("x", "0.1,0.2", choices=(0.1, 0.2)), Parameter("kind", "a,b", choices=("a", "b")))
    trials = toy.tune(tmp_path, 20, space=space, sampler="random", pruner="none")
    assert len(trials) == 20
    assert len([line for line in trained(tmp_path) if line.startswith("start")]) <= 4
    assert sum(trained(tmp_path).values()) <= 8
    assert all(trial["state"] == "complete" for trial in trials)
    repeated = [trial for trial in trials if trial["note"]]
    assert len(repeated) >= 16
    for trial in repeated:
        first = trials[int(trial["note"].removeprefix("as trial "))]
        assert (first["params"], first["value"]) == (trial["params"], trial["value"])


def test_a_grid_is_tried_point_by_point_and_then_the_study_is_full(tmp_path: Path) -> None:
    space = (Parameter("x", "0:1:0.5", low=0.0, high=1.0, step=0.5), toy.SPACE[1])
    facts = {"space": {parameter.field: parameter.text for parameter in space}}
    with opened(tmp_path / "tuning" / "toy", facts, space, "grid", "none", 0, {}) as study:
        study.study.enqueue_trial({"x": 0.0, "kind": "a"})  # and then it died
    first = toy.tune(tmp_path, 4, space=space, sampler="grid", pruner="none")
    assert len(first) == 4
    trials = toy.tune(tmp_path, 100, space=space, sampler="grid", pruner="none")
    assert trials[:4] == first
    assert [tuple(trial["params"].values()) for trial in trials] == [(x, k) for x in (0.0, 0.5, 1.0) for k in "ab"]


def test_the_importance_of_the_parameters_is_known_once_trials_differ(tmp_path: Path) -> None:
    facts = {"space": {parameter.field: parameter.text for parameter in toy.SPACE}}
    for trials in (1, TRIALS):
        toy.tune(tmp_path, trials, pruner="none")
        with opened(tmp_path / "tuning" / "toy", facts, toy.SPACE, "tpe", "none", 0, toy.FIRST) as study:
            shares = study.importances()
        assert set(shares) == (set() if trials == 1 else {"x", "kind"})
    assert sum(shares.values()) == pytest.approx(1)
    bars = importance(shares).axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx(sorted(shares.values()))


def test_a_trial_whose_job_fails_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    trials = toy.tune(tmp_path, 8, pruner="none", fails="b")
    assert {(trial["params"]["kind"], trial["state"]) for trial in trials} == {("a", "complete"), ("b", "fail")}
    assert {trial["note"] for trial in trials if trial["state"] == "fail"} == {"boom"}


def test_a_trial_whose_worker_was_killed_stays_open_for_the_next_time(tmp_path: Path) -> None:
    calm = toy.tune(tmp_path / "calm", 6, pruner="none", sampler="random")
    trials = toy.tune(tmp_path / "killed", 6, pruner="none", sampler="random", fails="b", kind="killed")
    assert {(trial["params"]["kind"], trial["state"]) for trial in trials} == {("a", "complete"), ("b", "running")}
    assert toy.tune(tmp_path / "killed", 6, pruner="none", sampler="random") == calm


def test_another_space_under_the_same_name_is_refused(tmp_path: Path) -> None:
    toy.tune(tmp_path, 1)
    before = (tmp_path / "tuning" / "toy" / "journal.log").read_bytes()
    with pytest.raises(UsageError, match=r'space was \{"x": "0:1".*is \{"x": "0:2".*--study NAME'):
        toy.tune(tmp_path, 2, space=(Parameter("x", "0:2", low=0, high=2), toy.SPACE[1]))
    assert (tmp_path / "tuning" / "toy" / "journal.log").read_bytes() == before


@pytest.mark.parametrize("moment", ["enqueued", "without values", "with one value", "asked"])
@pytest.mark.parametrize("before", [0, 12])
def test_a_death_between_two_lines_of_the_journal(
    moment: str, before: int, tmp_path: Path, calm: list[dict[str, Any]]
) -> None:
    toy.tune(tmp_path, before)
    facts = {"space": {parameter.field: parameter.text for parameter in toy.SPACE}}
    with opened(tmp_path / "tuning" / "toy", facts, toy.SPACE, "tpe", "median", 0, toy.FIRST) as study:
        if moment == "asked":
            study.ask()
        elif before == 0:
            study.study.enqueue_trial(toy.FIRST)
        if moment in {"without values", "with one value"}:
            study.study.sampler = study._sampler(before)
            trial = study.study.ask()
            if moment == "with one value":
                toy.SPACE[0].suggest(trial)
    assert toy.tune(tmp_path, TRIALS) == calm


def test_one_process_at_a_time(tmp_path: Path) -> None:
    facts = {"space": {parameter.field: parameter.text for parameter in toy.SPACE}}
    with (
        opened(tmp_path / "tuning" / "toy", facts, toy.SPACE, "tpe", "median", 0, {}),
        pytest.raises(UsageError, match="another `suite tune` works on study toy"),
    ):
        toy.tune(tmp_path, 1)
