"""The record of grids in a store, as `published.json` has it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from analysis.publish.anonymous import Anonymiser
from analysis.publish.record import PublishedCell, PublishedDataset, PublishedGrid, PublishedResult, recipe_hash
from analysis.tables.notes import row_label
from suite.data.catalogue import DATASETS
from suite.grid.spec import GridSpec
from suite.kinds.base import DataJobSpec
from suite.store.cells import CellRecord, result_lines
from suite.store.store import Store


def published_grid(
    store: Store, grid: GridSpec, profile: str, records: Sequence[CellRecord], anonymous: Anonymiser
) -> tuple[PublishedGrid, dict[str, dict[str, Any]]]:
    """The finished cells of a grid, and their recipes by hash.

    Args:
        store: of the results.
        grid: the grid.
        profile: the one that the records were run with.
        records: its cells, in the order of the table.
        anonymous: clears the recipes, before they are hashed.
    """
    recipes: dict[str, dict[str, Any]] = {}
    datasets: dict[tuple[str, str], PublishedDataset] = {}
    cells = []
    for record in records:
        lines = result_lines(store, [record])
        if not lines:
            continue
        of_cell = anonymous.tree(recipes_of(record))
        name = recipe_hash(of_cell)
        recipes[name] = of_cell
        data = _dataset(record, _fingerprint(store, record))
        datasets[data.name, data.fingerprint] = data
        results = [store.result(key) for key in record.jobs]
        cells.append(
            PublishedCell(
                row=record.row,
                label=row_label(grid.row(record.row)),
                reference=grid.row(record.row).reference,
                method=record.method,
                dataset=record.dataset,
                seed=record.seed,
                stage1=record.stage1,
                stage2=record.stage2,
                recipe=name,
                data=data.fingerprint,
                changed=record.set,
                suspicious=[reason for result in results if result is not None for reason in result.suspicious],
                results=[
                    PublishedResult(
                        protocol=line.protocol, metric=line.metric, value=line.value, n=line.n, key=line.key
                    )
                    for line in lines
                ],
            )
        )
    described = PublishedGrid(
        name=grid.name,
        title=grid.title,
        profile=profile,
        reference_row=grid.reference_row,
        datasets=list(datasets.values()),
        cells=cells,
    )
    return described, recipes


def recipes_of(record: CellRecord) -> dict[str, Any]:
    """Everything that determines a cell's numbers but data, seed and code: what `recipe_hash` is the hash of."""
    checkpoint = record.stage1_checkpoint
    return {
        "recipe": record.recipe,
        "first_stage": record.stage1_recipe,
        "checkpoint": None if checkpoint is None else checkpoint.sha256,
    }


def commits(store: Store, records: Iterable[CellRecord]) -> list[str]:
    """Commits of the code that trained the cells."""
    seen = set[str]()
    for key in dict.fromkeys(key for record in records for key in record.jobs):
        path = store.folder(key) / "env.json"
        commit = json.loads(path.read_text("utf-8")).get("commit") if path.is_file() else None
        if commit:
            seen.add(str(commit))
    return sorted(seen)


def _fingerprint(store: Store, record: CellRecord) -> str:
    """Of the dataset that the cell's measurements read."""
    for key in record.measured.values():
        spec = store.spec(key)
        if isinstance(spec, DataJobSpec):
            return spec.data.fingerprint
    return "unknown"


def _dataset(record: CellRecord, fingerprint: str) -> PublishedDataset:
    name, facts = record.dataset, record.data.get(record.dataset)
    synthetic = facts is not None and facts.synthetic
    return PublishedDataset(
        name=name,
        heading=DATASETS[name].heading(synthetic),
        describe=DATASETS[name].label if facts is None else facts.describe,
        subset=facts is not None and facts.subset,
        synthetic=synthetic,
        fingerprint=fingerprint,
    )
