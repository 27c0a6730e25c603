"""A study whose training is a formula, to be killed at any moment: python tests/tuning/toy.py FOLDER TRIALS

Everything but the executor and the training is the real thing: study, tuner, store. Every job writes its curve line by
line and its result last, as a worker does, and a line to `trained.log` for each start and end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from methods.args import ResNetArgs
from suite.jobs.identity import Job
from suite.kinds.imported import ImportSpec
from suite.store.store import Failure, Result, Store
from suite.tuning.space import Parameter
from suite.tuning.study import Pruner, Sampler, opened
from suite.tuning.tuner import Tuner

SPACE = (
    Parameter("x", "0:1", low=0.0, high=1.0),
    Parameter("kind", "a,b", choices=("a", "b")),
)
FIRST: dict[str, Any] = {"x": 0.5, "kind": "a"}
EPOCHS = 4


class Silent:
    """A listener that says nothing."""

    def started(self, job: Job) -> None: ...

    def progress(self, job: Job, line: dict[str, float]) -> None: ...

    def ended(self, job: Job, outcome: str, error: str) -> None: ...


class Plan:
    """A trial of one job, in place of `TrialJobs`."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        spec = ImportSpec(sha256=f"{params['x']!r}{params['kind']}", backbone=ResNetArgs(arch="resnet10"))
        self.jobs = [Job(spec, "toy")]
        self.value_there = 100 - 50 * abs(params["x"] - 0.3) - (10 if params["kind"] == "b" else 0)

    def value(self, store: Store) -> float | None:
        result = store.result(self.jobs[0].key)
        return None if result is None else result.metrics["value"]

    def scores(self, store: Store) -> dict[str, float]:
        return {"cell": self.value(store) or 0.0}

    def curve(self, store: Store) -> dict[int, float]:
        return {int(line["epoch"]): line["knn"] for line in store.metrics(self.jobs[0].key)}


class Executor:
    """One job after another in this process, as LocalExecutor with one worker."""

    def __init__(self, root: Path, pause: float, fails: str, kind: Literal["failed", "killed"]) -> None:
        self.store, self.log, self.pause = Store(root), root / "trained.log", pause
        self.fails, self.kind = fails, kind

    def run(self, tuner: Tuner) -> None:
        while jobs := tuner.next_jobs():
            for job in jobs:
                self._train(job, tuner)

    def _train(self, job: Job, tuner: Tuner) -> None:
        value = Plan(params_of(job)).value_there
        self._note(f"start {job.key}")
        self.store.begin(job, {})
        done = len(self.store.metrics(job.key))
        for epoch in range(done + 1, EPOCHS + 1):
            time.sleep(self.pause)
            with (self.store.folder(job.key) / "metrics.jsonl").open("a") as file:
                file.write(f'{{"epoch": {epoch}, "step": {epoch}, "knn": {value * epoch / EPOCHS}}}\n')
            tuner.progress(job, {})
            if tuner.is_unneeded(job):
                tuner.ended(job, "left", "")
                return
        if self.fails and self.fails in params_of(job)["kind"]:
            self.store.fail(job.key, Failure(error="boom", kind=self.kind, traceback=""))
            tuner.ended(job, "failed", "boom")
            return
        self.store.finish(
            Result(key=job.key, name="toy", metrics={"value": value}, files={}, seconds=0, images_per_second=0)
        )
        self._note(f"end {job.key}")
        tuner.ended(job, "done", "")

    def _note(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text + "\n")


def params_of(job: Job) -> dict[str, Any]:
    assert isinstance(job.spec, ImportSpec)
    return {"x": float(job.spec.sha256[:-1]), "kind": job.spec.sha256[-1]}


def tune(
    root: Path,
    trials: int,
    pause: float = 0.0,
    space: Sequence[Parameter] = SPACE,
    sampler: Sampler = "tpe",
    pruner: Pruner = "median",
    fails: str = "",
    kind: Literal["failed", "killed"] = "failed",
) -> list[dict[str, Any]]:
    """Bring the study under `root` to `trials` trials. Returns its trials."""
    root.mkdir(parents=True, exist_ok=True)
    facts = {"space": {parameter.field: parameter.text for parameter in space}}
    first = FIRST if all(parameter.holds(FIRST[parameter.field]) for parameter in space) else {}
    with opened(root / "tuning" / "toy", facts, space, sampler, pruner, 0, first) as study:
        executor = Executor(root, pause, fails, kind)
        executor.run(Tuner(study, trials, Plan, lambda _: None, executor.store, Silent(), lambda _: None))  # type: ignore[arg-type]
        study.write()
        return study.facts()


if __name__ == "__main__":
    tune(Path(sys.argv[1]), int(sys.argv[2]), pause=0.02)
