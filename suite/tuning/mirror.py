"""A study's trials in MLflow, replayed from `trials.json`: experiment `tune/<study>`, one run per trial."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        """In MLflow."""
        return PREFIX + self.name


def read_studies(root: Path, experiment: str | None = None) -> list[RecordedStudy]:
    """Studies of a store, all or the one of an experiment."""
    found = []
    for path in sorted((root / "tuning").glob("*/trials.json")):
        facts = json.loads((path.parent / "study.json").read_text("utf-8"))
        study = RecordedStudy(path.parent.name, facts, json.loads(path.read_text("utf-8")))
        if experiment in (None, study.experiment):
            found.append(study)
    return found


def sync_study(
    client: MlflowClient,
    experiment: str,
    study: RecordedStudy,
    runs: dict[str, Any],
    log_metrics: Callable[[MlflowClient, str, list[dict[str, float]]], None],
    log_params: Callable[[MlflowClient, str, dict[str, Any]], None],
) -> int:
    """Bring the trials' runs up to date. Returns how many were created or changed.

    `runs` has MLflow's runs by their tag `suite.trial`.
    """
    changed = 0
    for trial in study.trials:
        name = f"{study.experiment}/{trial['number']}"
        run, state = runs.get(name), trial["state"]
        if run is not None and run.data.tags.get("suite.state") == state and state != "running":
            continue
        if run is None:
            tags = {"suite.trial": name, "suite.kind": "trial", "suite.study": study.name, "suite.curve": "0"}
            run = client.create_run(experiment, tags=tags, run_name=f"trial {trial['number']}")
            about = {field: study.facts[field] for field in ("grid", "profile", "objective", "sampler", "pretrain_on")}
            log_params(client, run.info.run_id, {**trial["params"], **{f"study.{key}": v for key, v in about.items()}})
        run_id, seen = run.info.run_id, int(run.data.tags.get("suite.curve", "0"))
        lines = [
            {"step": float(epoch), "knn_held_out": value}
            for epoch, value in trial["curve"].items()
            if int(epoch) > seen
        ]
        if state == "complete":
            cells = {f"{study.facts['metric']}.{cell}": value for cell, value in (trial["cells"] or {}).items()}
            lines.append({"step": 0, study.facts["metric"]: trial["value"], **cells})
        if lines:
            log_metrics(client, run_id, lines)
        last = max([seen, *map(int, trial["curve"])])
        tags = {"suite.state": state, "suite.job_keys": ",".join(trial["jobs"] or ()), "suite.curve": str(last)}
        if trial["note"]:
            tags["suite.note"] = trial["note"][:500]
        if not lines and all(run.data.tags.get(tag) == value for tag, value in tags.items()):
            continue
        for tag, value in tags.items():
            client.set_tag(run_id, tag, value)
        if _STATUS[state] in {"FINISHED", "KILLED", "FAILED"}:
            client.set_terminated(run_id, status=_STATUS[state])
        runs[name] = client.get_run(run_id)
        changed += 1
    return changed
