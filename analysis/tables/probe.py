"""The table of what a backbone holds before fine-tuning: nearest neighbours and a linear classifier on its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from analysis.cells import remarks as say
from analysis.tables.metrics import Column, MetricTable, blocks, images_tested, seeds_note, title
from suite.grid.spec import GridSpec
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store

PROTOCOL = "probe"
_COLUMNS = (Column("knn", "kNN"), Column("linear", "Linear"))  # each a protocol of its own in results.csv


def probe_table(
    store: Store, grid: GridSpec, profile: str, recorded: Sequence[CellRecord], lines: Sequence[ResultLine]
) -> MetricTable | None:
    """The table of the recorded cells; None where nothing was measured. `lines` are their results."""
    entries = say.in_order(grid, recorded)
    measured = [
        replace(line, protocol=PROTOCOL, metric=line.protocol)
        for line in lines
        if line.protocol in {column.metric for column in _COLUMNS}
    ]
    suspicious = say.suspicions(say.results_of(store, entries), entries)
    found = blocks(grid, measured, PROTOCOL, _COLUMNS, suspicious, best=True)
    if not found:
        return None
    probes = [entry.recipe["probe"] for entry in entries if entry.recipe.get("probe")]
    notes = [
        "Top-1 (%) on the frozen backbone, pooled features of central crops.",
        *_protocols(probes),
        *say.sentences(grid, profile, recorded),
        f"Test images: {images_tested(found)}.",
        seeds_note(found) + " Best of the rows in bold.",
    ]
    name, heading, data = f"{grid.name}_{PROTOCOL}", title("Frozen backbones", grid), say.data_used(entries)
    return MetricTable(
        name, heading, profile, PROTOCOL, _COLUMNS, found, tuple(notes), data, say.datasets_with("synthetic", entries)
    )


def _protocols(probes: Sequence[dict[str, Any]]) -> list[str]:
    """How the probes were made, for every setting in use."""
    knn = {(probe["knn"]["k"], probe["knn"]["temperature"]) for probe in probes if probe.get("knn")}
    linear = {probe["linear"]["held_out"] for probe in probes if probe.get("linear")}
    found = [f"kNN: cosine, k = {k}, T = {temperature:g} (Wu et al. 2018)." for k, temperature in sorted(knn)]
    for share in sorted(linear):
        found.append(
            f"Linear: logistic regression, its L2 penalty chosen on {100 * share:g} % of the training split, held out."
        )
    return found
