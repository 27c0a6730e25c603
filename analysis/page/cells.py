"""Cells of a grid and their problems, from the store, in the form of the report page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.page.jobs import training_seconds
from analysis.page.model import CellDetail, Problem, SeedLine, Setting
from analysis.page.tables import html_id
from analysis.tables.accuracy import Table
from analysis.tables.notes import row_label
from suite.data.catalogue import DATASETS
from suite.grid.spec import GridSpec
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store

_PROTOCOLS = ("finetune", "linear", "knn")  # the order of the columns; others follow


def cell_details(
    store: Store, grid: GridSpec, table: Table, records: Iterable[CellRecord], lines: Iterable[ResultLine]
) -> list[CellDetail]:
    """One `CellDetail` per row and dataset with a record, in the order of the table."""
    cells: dict[tuple[str, str], list[CellRecord]] = defaultdict(list)
    for record in records:
        cells[record.row_and_dataset].append(record)
    numbers: dict[tuple[str, str, int], dict[str, str]] = defaultdict(dict)
    for line in lines:
        if line.metric == "top1":
            numbers[line.row, line.dataset, line.seed][line.protocol] = f"{line.value:.2f}"
    details = []
    recorded = {row for row, _ in cells}
    for row in (row for row in grid.rows if row.name in recorded or row in table.rows):
        for dataset in table.datasets:
            cell_records = sorted(cells.get((row.name, dataset), []), key=lambda record: record.seed)
            if not cell_records:
                continue
            seeds = [_seed(store, record, numbers.get((row.name, dataset, record.seed), {})) for record in cell_records]
            measured = {protocol for seed in seeds for protocol in seed.numbers}
            cell = table.cells.get((row.name, dataset))
            details.append(
                CellDetail(
                    id=html_id("cell", grid.name, row.name, dataset),
                    row=row_label(row),
                    dataset=DATASETS[dataset].heading(dataset in table.synthetic),
                    headline=_state(seeds, row.frozen) if cell is None else f"{cell.mean:.2f}",
                    protocols=sorted(measured, key=lambda name: (name not in _PROTOCOLS, name)),
                    seeds=seeds,
                    recipes=_recipes(cell_records),
                )
            )
    return details


def problems(store: Store, grid: GridSpec, records: Sequence[CellRecord]) -> list[Problem]:
    """Failed jobs and suspicious results with the cells that need them, and unfinished cells."""
    users: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for key in record.jobs:
            users[key].append(_cell_name(grid, record))
    listed, blocked = [], set[str]()
    for key, cells in users.items():
        failure, result = store.failure(key), store.result(key)
        if result is not None and result.suspicious:
            reason = "; ".join(result.suspicious)
            listed.append(Problem("suspicious", result.name, reason, cells, html_id("job", key)))
        elif failure is not None and failure.kind == "failed" and store.status(key) == "failed":
            listed.append(Problem("failed", store.name(key), failure.error, cells, html_id("job", key)))
            blocked |= set(cells)
    waiting = [
        _cell_name(grid, record)
        for record in records
        if any(store.result(key) is None for key in record.jobs) and _cell_name(grid, record) not in blocked
    ]
    if waiting:
        title = f"{len(waiting)} cell{'s' * (len(waiting) > 1)} not finished"
        listed.append(Problem("unfinished", title, "the same `suite run` command resumes them", waiting))
    return listed


def _cell_name(grid: GridSpec, record: CellRecord) -> str:
    return f"{row_label(grid.row(record.row))} on {DATASETS[record.dataset].label}, seed {record.seed}"


def _seed(store: Store, record: CellRecord, numbers: dict[str, str]) -> SeedLine:
    roles = record.roles or {key: key for key in record.jobs}
    jobs = [(role, key, store.status(key)) for role, key in roles.items()]
    return SeedLine(record.seed, numbers, training_seconds(store, record.jobs), jobs)


def _state(seeds: Sequence[SeedLine], frozen: bool) -> str:
    """Why a cell has no number: the worst state of its jobs, or that it is frozen."""
    states = {state for seed in seeds for _, _, state in seed.jobs}
    order = {"failed": "failed", "running": "running", "interrupted": "interrupted", "new": "not run"}
    return next((text for state, text in order.items() if state in states), "frozen" if frozen else "no number")


def _recipes(records: Sequence[CellRecord]) -> list[tuple[str, list[Setting]]]:
    """The distinct recipes of a cell's seeds; a heading says which stage and, where they differ, which seeds."""
    recipes: dict[tuple[str, str], tuple[list[Setting], list[int]]] = {}
    for record in records:
        for stage, recipe, origins in (
            (_first_stage(record), record.stage1_recipe, record.stage1_origins),
            ("Recipe", record.recipe, record.origins),
        ):
            if recipe is not None:
                settings = _settings(recipe, origins)
                _, seeds = recipes.setdefault((stage, repr(settings)), (settings, []))
                seeds.append(record.seed)
    stages = [stage for stage, _ in recipes]
    return [
        (stage if stages.count(stage) == 1 else f"{stage}, seeds {', '.join(map(str, seeds))}", settings)
        for (stage, _), (settings, seeds) in recipes.items()
    ]


def _first_stage(record: CellRecord) -> str:
    return f"First stage on {record.stage1}" + ", the row's own method" * (record.first_stage == "own")


def _settings(recipe: Mapping[str, Any], origins: Mapping[str, str] | None, at: str = "") -> list[Setting]:
    """A recipe flattened to dotted paths; cells recorded without origins leave them empty."""
    settings = []
    for name, value in recipe.items():
        path = at + name
        if isinstance(value, Mapping):
            settings += _settings(value, origins, f"{path}.")
        elif value is not None or (origins and path in origins):
            origin = "" if origins is None else origins.get(path, "default")
            settings.append(Setting(path, json.dumps(value, ensure_ascii=False), origin))
    return settings
