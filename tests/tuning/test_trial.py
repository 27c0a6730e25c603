"""What a trial runs reads the training split alone, and being watched changes no bit of a pretraining."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from suite.cli.select import SelectorOptions
from suite.data.decoded import split as source
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.prepare import prepare
from suite.execute.worker import JobEnd, run_job
from suite.grid.spec import load_grid
from suite.jobs.identity import Job
from suite.kinds.finetune import FinetuneSpec
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.probe import KnnArgs, ProbeSpec
from suite.planning.plan import Plan
from suite.store.store import Store
from suite.training import evaluation
from suite.training.evaluation import centre_crops
from suite.training.feed import Loading
from suite.training.online import METRIC, OnlineKnn
from suite.tuning.trial import METRICS, Objective, PretrainOn, TrialJobs, trial_cells, trial_jobs

CPU = Device(accelerator="cpu")
ONLINE = OnlineKnn(("cub",), 2, 0.2, 1.143, KnnArgs(k=5, temperature=0.07))


def planned(drawn: Path, runs: Path, profile: Path, grid: str = "paper_table1", *overrides: str) -> Plan:
    return SelectorOptions(grid, str(profile), drawn, runs, ["cub"], ["byol_cvsa"], None, None, list(overrides)).plan(
        False
    )


def jobs(plan: Plan, params: dict[str, Any], objective: Objective = "finetune", on: PretrainOn = "all") -> TrialJobs:
    name = plan.cells[0].grid
    chosen = SelectorOptions(name, "demo", None, None, ["cub"], ["byol_cvsa"], None, None, None).selection
    return trial_jobs(plan, trial_cells(load_grid(name), plan, chosen, params), objective, on)


def run(job: Job, plan: Plan, device: Device = CPU) -> None:
    prepare([job], plan.datasets, plan.data_root, plan.workspace.cache, lambda *_: None)
    end = run_job(job, JobContext(RunPaths(plan.workspace.runs, plan.workspace.cache), device))
    assert end == JobEnd("done")


def test_a_trials_stage_is_the_job_of_a_plain_run_and_is_shared(
    drawn: Path, tmp_path: Path, tiny_profile: Path
) -> None:
    plan = planned(drawn, tmp_path, tiny_profile)
    one = jobs(plan, {"finetune.optimizer.base_lr": 0.3})
    other = jobs(plan, {"finetune.optimizer.base_lr": 0.4})
    (shared,) = {job.key for job in one.jobs} & {job.key for job in other.jobs}
    assert shared == plan.jobs[0].key
    strict = jobs(plan, {}, on="rest")
    assert isinstance(strict.jobs[0].spec, PretrainSpec)
    assert strict.jobs[0].spec.held_out == 0.2
    assert strict.jobs[0].key != shared
    assert [job.spec.init for job in strict.jobs[1:] if not isinstance(job.spec, PretrainSpec)] == [strict.jobs[0].key]


def test_the_first_stage_is_trained_once_for_all_trials(drawn: Path, tmp_path: Path, tiny_profile: Path) -> None:
    plan = planned(drawn, tmp_path, tiny_profile, "paper_table2")
    trials = [jobs(plan, {"pretrain.optimizer.base_lr": rate}) for rate in (0.1, 0.2)]
    both = [item for trial in trials for item in trial.cells if len(item.stages) == 2]
    assert len({item.stages[0].key for item in both}) == 1
    assert len({item.stages[1].key for item in both}) == 2
    own = [jobs(plan, {"stage1.pretrain.optimizer.base_lr": rate}) for rate in (0.1, 0.2)]
    assert len({item.stages[0].key for trial in own for item in trial.cells if len(item.stages) == 2}) == 2


def test_several_learning_rates_count_by_the_best(drawn: Path, tmp_path: Path, tiny_profile: Path) -> None:
    plan = planned(drawn, tmp_path, tiny_profile, "paper_table1", "finetune.lr_candidates=[0.1, 0.2]")
    (cell,) = trial_jobs(plan, plan.cells, "finetune", "all").cells
    assert {job.key for job in cell.measured} == {job.key for job in plan.cell_jobs[0].trials}


def test_the_test_split_is_never_opened(
    drawn: Path, tmp_path: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(drawn, tmp_path, tiny_profile)
    opened: list[str] = []
    original = source.SplitSource.__init__

    def spy(self: Any, store: Any, split: Any, maps: Any = None) -> None:
        opened.append(split)
        original(self, store, split, maps)

    monkeypatch.setattr(source.SplitSource, "__init__", spy)
    store, done = Store(tmp_path), set()
    objectives: tuple[Objective, ...] = ("finetune", "linear", "knn")
    for objective in objectives:
        trial = jobs(plan, {}, objective, "rest" if objective == "knn" else "all")
        for job in trial.jobs:
            if job.key not in done:
                run(job, plan, replace(CPU, online=ONLINE))
                done.add(job.key)
        (cell,) = trial.cells
        result = store.result(cell.measured[0].key)
        assert result is not None
        assert (result.counts["n_train"], result.counts["n_held_out"]) == (18, 6)  # 2 of 8 of each of three classes
        assert "n_test" not in result.counts
        assert trial.value(store) == result.metrics[METRICS[objective]]
        hits = result.metrics[METRICS[objective]] * 6 / 100
        assert hits == pytest.approx(round(hits))
        pretraining = store.result(cell.stages[0].key)
        assert pretraining is not None
        assert pretraining.counts["n_train"] == (18 if objective == "knn" else 24)
    assert set(opened) == {"train"}
    measured = next(job for job in plan.jobs if isinstance(job.spec, ProbeSpec | FinetuneSpec))
    run(measured, plan)
    assert "test" in opened  # the spy sees what a plain job opens


@pytest.mark.parametrize("loaders", [0, 2])
def test_a_watched_pretraining_ends_in_the_same_bits(
    drawn: Path, tmp_path: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch, loaders: int
) -> None:
    """The kNN reads its images with the loaders of the job."""

    def crops(*arguments: Any) -> Any:
        used.append(arguments[3])
        return centre_crops(*arguments)

    used: list[Loading] = []
    monkeypatch.setattr(evaluation, "centre_crops", crops)
    plans = [planned(drawn, tmp_path / name, tiny_profile, "paper_table1", "pretrain.epochs=3") for name in "ab"]
    job = plans[0].jobs[0]
    run(job, plans[0])
    run(job, plans[1], replace(CPU, online=ONLINE, loaders=loaders))
    assert {loading.loaders for loading in used} == {loaders}
    plain, watched = (Store(plan.workspace.runs) for plan in plans)
    weights = [load_file(store.weights(job.key, "backbone.safetensors")) for store in (plain, watched)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert tensor.equal(weights[1][name]), name
    results = [store.result(job.key) for store in (plain, watched)]
    assert [r and (r.metrics.keys(), r.files) for r in results[:1]] == [
        r and (r.metrics.keys(), r.files) for r in results[1:]
    ]
    lines = watched.metrics(job.key)
    assert [METRIC in line for line in lines] == [False, True, True]  # every second epoch, and the last
    assert all(0 <= line[METRIC] <= 100 for line in lines[1:])
    assert not any(METRIC in line for line in plain.metrics(job.key))
    assert json.loads((tmp_path / "b" / job.key / "result.json").read_text("utf-8"))["key"] == job.key
