"""Metrics and parameters to MLflow in as few calls as it allows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARAMS_PER_CALL = 100  # limits of MLflow's log_batch
_METRICS_PER_CALL = 1000
_PARAM_LENGTH = 500


def log_metrics(client: MlflowClient, run_id: str, lines: list[dict[str, float]]) -> None:
    """Every number of every line, at the line's step."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(name, value, now, int(line["step"])) for line in lines for name, value in line.items() if name != "step"
    ]
    for start in range(0, len(metrics), _METRICS_PER_CALL):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_CALL])


def log_params(client: MlflowClient, run_id: str, values: dict[str, Any]) -> None:
    """Nested values under dotted names, cut to what MLflow takes."""
    from mlflow.entities import Param

    params = [Param(name, str(value)[:_PARAM_LENGTH]) for name, value in _flat(values)]
    for start in range(0, len(params), _PARAMS_PER_CALL):
        client.log_batch(run_id, params=params[start : start + _PARAMS_PER_CALL])


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return pairs
