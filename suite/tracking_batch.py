"""Metrics, parameters and tags to MLflow in as few calls as it allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARAMS_PER_CALL = 100  # limits of MLflow's log_batch
_METRICS_PER_CALL = 1000
TEXT_LENGTH = 500  # characters of a parameter or a tag that are kept

Point = tuple[str, float, int, int]  # name, value, time in milliseconds, step


def points(line: Mapping[str, float], when: int) -> list[Point]:
    """Every metric of a line."""
    return [(name, value, when, int(line["step"])) for name, value in line.items() if name != "step"]


def log_batch(
    client: MlflowClient, run_id: str, metrics: Sequence[Point], params: Mapping[str, Any], tags: Mapping[str, str]
) -> None:
    """Log all of it; the tags come with the last call, so that they say that the rest is there.

    Args:
        client: the tracker.
        run_id: MLflow's.
        metrics: see `points`.
        params: nested values, logged under dotted names and cut to `TEXT_LENGTH`.
        tags: as they are.
    """
    from mlflow.entities import Metric, Param, RunTag

    numbers = [Metric(*point) for point in metrics]
    pairs = [Param(name, str(value)[:TEXT_LENGTH]) for name, value in _flat(params)]
    calls = max(1, -(-len(numbers) // _METRICS_PER_CALL), -(-len(pairs) // _PARAMS_PER_CALL))
    for call in range(calls):
        client.log_batch(
            run_id,
            metrics=numbers[call * _METRICS_PER_CALL : (call + 1) * _METRICS_PER_CALL],
            params=pairs[call * _PARAMS_PER_CALL : (call + 1) * _PARAMS_PER_CALL],
            tags=[RunTag(name, text) for name, text in tags.items()] if call == calls - 1 else [],
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
