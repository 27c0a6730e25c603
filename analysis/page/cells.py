"""What the store knows about the cells of a grid, in the form of the report page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.page.jobs import training_seconds
from analysis.page.model import CellDetail, Problem, SeedLine, Setting
from analysis.page.tables import place
from analysis.tables.accuracy import Table
from analysis.tables.notes import row_label
from suite.data.catalogue import DATASETS
from suite.grid.spec import GridSpec
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store

_PROTOCOLS = ("finetune", "linear", "knn")  # the order of the columns; others follow


def cell_details(
    store: Store, grid: GridSpec, table: Table, entries: Iterable[CellRecord], lines: Iterable[ResultLine]
) -> list[CellDetail]:
    """One per row and dataset that was asked for, in the order of the table."""
    cells: dict[tuple[str, str], list[CellRecord]] = defaultdict(list)
    for entry in entries:
        cells[entry.place].append(entry)
    numbers: dict[tuple[str, str, int], dict[str, str]] = defaultdict(dict)
    for line in lines:
        if line.metric == "top1":
            numbers[line.row, line.dataset, line.seed][line.protocol] = f"{line.value:.2f}"
    found = []
    for row in table.rows:
        for dataset in table.datasets:
            own = sorted(cells.get((row.name, dataset), []), key=lambda entry: entry.seed)
            if not own:
                continue
            seeds = [_seed(store, entry, numbers.get((row.name, dataset, entry.seed), {})) for entry in own]
            measured = {protocol for seed in seeds for protocol in seed.numbers}
            cell = table.cells[row.name, dataset]
            found.append(
                CellDetail(
                    id=place("cell", grid.name, row.name, dataset),
                    row=row_label(row),
                    dataset=DATASETS[dataset].heading(dataset in table.drawn),
                    headline=_state(seeds) if cell is None else f"{cell.mean:.2f}",
                    protocols=sorted(measured, key=lambda name: (name not in _PROTOCOLS, name)),
                    seeds=seeds,
                    recipes=_recipes(own),
                )
            )
    return found


def problems(store: Store, grid: GridSpec, entries: Sequence[CellRecord]) -> list[Problem]:
    """Failed jobs with the cells that lack them, doubtful results with theirs, and cells that wait for a run."""
    users: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        for key in entry.jobs:
            users[key].append(_cell_name(grid, entry))
    found, blocked = [], set[str]()
    for key, cells in users.items():
        failure, result = store.failure(key), store.result(key)
        if result is not None and result.suspicious:
            why = "; ".join(result.suspicious)
            found.append(Problem("suspicious", result.name, why, cells, place("job", key)))
        elif failure is not None and failure.kind == "failed" and store.status(key) == "failed":
            found.append(Problem("failed", store.name(key), failure.error, cells, place("job", key)))
            blocked |= set(cells)
    waiting = [
        _cell_name(grid, entry)
        for entry in entries
        if any(store.result(key) is None for key in entry.jobs) and _cell_name(grid, entry) not in blocked
    ]
    if waiting:
        what = f"{len(waiting)} cell{'s' * (len(waiting) > 1)} not finished"
        found.append(
            Problem("unfinished", what, "the same command as before, suite run, goes on where it stopped", waiting)
        )
    return found


def _cell_name(grid: GridSpec, entry: CellRecord) -> str:
    return f"{row_label(grid.row(entry.row))} on {DATASETS[entry.dataset].label}, seed {entry.seed}"


def _seed(store: Store, entry: CellRecord, numbers: dict[str, str]) -> SeedLine:
    roles = entry.roles or {key: key for key in entry.jobs}
    jobs = [(role, key, store.status(key)) for role, key in roles.items()]
    return SeedLine(entry.seed, numbers, training_seconds(store, entry.jobs), jobs)


def _state(seeds: Sequence[SeedLine]) -> str:
    """Why a cell has no number, by the worst state among its jobs."""
    states = {state for seed in seeds for _, _, state in seed.jobs}
    order = {"failed": "failed", "running": "running", "interrupted": "interrupted", "new": "not run"}
    return next((text for state, text in order.items() if state in states), "no number")


def _recipes(entries: Sequence[CellRecord]) -> list[tuple[str, list[Setting]]]:
    """The distinct recipes of a cell's seeds; a heading says which stage and, where they differ, which seeds."""
    found: dict[tuple[str, str], tuple[list[Setting], list[int]]] = {}
    for entry in entries:
        for stage, recipe, origins in (
            (f"First stage on {entry.stage1}", entry.stage1_recipe, entry.stage1_origins),
            ("Recipe", entry.recipe, entry.origins),
        ):
            if recipe is not None:
                settings = _settings(recipe, origins)
                _, seeds = found.setdefault((stage, repr(settings)), (settings, []))
                seeds.append(entry.seed)
    stages = [stage for stage, _ in found]
    return [
        (stage if stages.count(stage) == 1 else f"{stage}, seeds {', '.join(map(str, seeds))}", settings)
        for (stage, _), (settings, seeds) in found.items()
    ]


def _settings(recipe: Mapping[str, Any], origins: Mapping[str, str] | None, at: str = "") -> list[Setting]:
    """A recipe flattened to dotted paths; cells recorded without origins leave them empty."""
    found = []
    for name, value in recipe.items():
        path = at + name
        if isinstance(value, Mapping):
            found += _settings(value, origins, f"{path}.")
        elif value is not None or (origins and path in origins):
            origin = "" if origins is None else origins.get(path, "default")
            found.append(Setting(path, json.dumps(value, ensure_ascii=False), origin))
    return found
