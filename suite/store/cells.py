"""Columns of results.csv, and the entry that records a cell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from suite.grid.cells import CellJobs
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import KINDS
from suite.store.store import Store

COLUMNS = (
    *("grid", "row", "method", "dataset", "stage1", "stage2", "profile"),  # the cell
    *("protocol", "seed", "metric", "value", "n", "key"),  # the number
)


def result_lines(store: Store, entries: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """One line per finished cell and metric, in results.csv's columns."""
    lines = []
    for entry in entries:
        cell = {column: str(entry[column]) for column in COLUMNS if column in entry}
        for kind, key in entry["measured"].items():
            result = store.result(key)
            if result is None:
                continue
            for number in KINDS[kind].numbers(result.metrics):
                value = {"value": repr(number.value), "n": str(result.counts["n_test"]), "key": key}
                lines.append(cell | {"protocol": number.protocol, "metric": number.metric} | value)
    return lines


def _entry(item: CellJobs, profile: str, overrides: dict[str, Any]) -> dict[str, Any]:
    cell, stages = item.cell, [job.spec for job in item.stages]
    return {
        "grid": cell.grid,
        "row": cell.row.name,
        "method": cell.row.method,
        "dataset": cell.dataset,
        "stage1": cell.row.stage1,
        "stage2": "yes" if cell.row.stage2 else "no",
        "profile": profile,
        "seed": cell.seed,
        "jobs": [job.key for job in item.jobs],
        "trained_with": sorted({s.saliency.detector for s in stages if isinstance(s, PretrainSpec) and s.saliency}),
        "roles": {role: job.key for role, job in item.roles.items()},
        "measured": item.measured,
        "set": overrides,
        "recipe": cell.recipe.model_dump(mode="json"),
        "origins": dict(cell.resolved.origins),
        "stage1_recipe": cell.stage1 and cell.stage1.recipe.model_dump(mode="json"),
        "stage1_origins": cell.stage1 and dict(cell.stage1.origins),
        "stage1_checkpoint": item.checkpoint,
    }
