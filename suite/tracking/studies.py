"""A study's trials in MLflow, replayed from `trials.json`: experiment `tune/<study>`, one run per trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.tracking.batch import PARAM_LENGTH, log_all, metric_points

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "tune/"

_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "fail": "FAILED", "running": "RUNNING", "waiting": "SCHEDULED"}


@dataclass(frozen=True)
class RecordedStudy:
    """A study as its folder tells it."""

    name: str
    facts: dict[str, Any]
    trials: list[dict[str, Any]]

    @property
    def experiment(self) -> str:
        """Name of the study's experiment in MLflow."""
        return PREFIX + self.name


def read_studies(root: Path, experiment: str | None = None) -> list[RecordedStudy]:
    """Studies of a store, all or the one of an experiment."""
    studies = []
    for path in sorted((root / "tuning").glob("*/trials.json")):
        facts = json.loads((path.parent / "study.json").read_text("utf-8"))
        study = RecordedStudy(path.parent.name, facts, json.loads(path.read_text("utf-8")))
        if experiment in (None, study.experiment):
            studies.append(study)
    return studies


def sync_study(client: MlflowClient, experiment: str, study: RecordedStudy, runs: Mapping[str, Any]) -> int:
    """Bring the trials' runs up to date. Returns how many were created or changed.

    `runs` has MLflow's runs by their tag `suite.trial`.
    """
    return sum(
        _sync_trial(client, experiment, study, trial, runs.get(f"{study.experiment}/{trial['number']}"))
        for trial in study.trials
    )


def _sync_trial(
    client: MlflowClient, experiment: str, study: RecordedStudy, trial: dict[str, Any], run: Any | None
) -> bool:
    state, last = trial["state"], max([0, *map(int, trial["curve"])])
    tags = {"suite.state": state, "suite.job_keys": ",".join(trial["jobs"] or ()), "suite.curve": str(last)}
    if trial["note"]:
        tags["suite.note"] = trial["note"][:PARAM_LENGTH]
    there = {} if run is None else run.data.tags
    if all(there.get(tag) == text for tag, text in tags.items()):
        return False
    params: dict[str, Any] = {}
    if run is None:
        fixed = {"suite.trial": f"{study.experiment}/{trial['number']}", "suite.kind": "trial"}
        run = client.create_run(
            experiment, tags={**fixed, "suite.study": study.name}, run_name=f"trial {trial['number']}"
        )
    if "suite.curve" not in there:
        about = {field: study.facts[field] for field in ("grid", "profile", "objective", "sampler", "pretrain_on")}
        params = {**trial["params"], "study": about}
    seen, when = int(there.get("suite.curve", "0")), run.info.start_time
    metrics = [
        point
        for epoch, value in trial["curve"].items()
        if int(epoch) > seen
        for point in metric_points({"step": float(epoch), "knn_held_out": value}, when)
    ]
    if state == "complete":
        metric = study.facts["metric"]
        cells = {f"{metric}.{cell}": value for cell, value in (trial["cells"] or {}).items()}
        metrics += metric_points({"step": 0, metric: trial["value"], **cells}, when)
    log_all(client, run.info.run_id, metrics, params, tags)
    if _STATUS[state] in {"FINISHED", "KILLED", "FAILED"}:
        client.set_terminated(run.info.run_id, status=_STATUS[state])
    return True
