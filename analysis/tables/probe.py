"""The table of frozen-backbone protocols: kNN and a linear classifier on the features before fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from analysis.cells import remarks
from analysis.cells.published import Published, comparators
from analysis.tables.captions import metric_caption
from analysis.tables.metrics import Column, MetricTable, blocks, images_tested, seeds_note, title
from suite.grid.spec import GridSpec
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store

PROTOCOL = "probe"
_COLUMNS = (Column("knn", "kNN"), Column("linear", "Linear"))  # separate protocols in results.csv


def probe_table(
    store: Store,
    grid: GridSpec,
    profile: str,
    recorded: Sequence[CellRecord],
    lines: Sequence[ResultLine],
    published: Published = "paper",
) -> MetricTable | None:
    """The table of the recorded cells; None without results. `lines`: the results of the cells.

    published: with "all", other works' published numbers stand below.
    """
    records = remarks.in_order(grid, recorded)
    measured = [
        replace(line, protocol=PROTOCOL, metric=line.protocol)
        for line in lines
        if line.protocol in {column.metric for column in _COLUMNS}
    ]
    suspicious = remarks.suspicions(remarks.results_of(store, records), records)
    blocks_shown = blocks(grid, measured, PROTOCOL, _COLUMNS, suspicious, best=True)
    if not blocks_shown:
        return None
    probes = [record.recipe["probe"] for record in records if record.recipe.get("probe")]
    notes = [
        "Top-1 (%) on the frozen backbone, pooled features of central crops.",
        *_protocols(probes),
        *remarks.caption_sentences(grid, recorded),
        f"Test images: {images_tested(blocks_shown)}.",
        seeds_note(blocks_shown) + " Best of the rows in bold.",
    ]
    name, heading, data = f"{grid.name}_{PROTOCOL}", title("Frozen backbones", grid), remarks.data_used(records)
    return MetricTable(
        name,
        heading,
        profile,
        PROTOCOL,
        _COLUMNS,
        blocks_shown,
        metric_caption("Top-1 (%) on the frozen backbone.", profile, records, blocks_shown),
        tuple(notes),
        data,
        remarks.datasets_with("synthetic", records),
        comparators("linear", [block.dataset for block in blocks_shown]) if published == "all" else (),
    )


def _protocols(probes: Sequence[dict[str, Any]]) -> list[str]:
    """One sentence per probe setting in use."""
    knn = {(probe["knn"]["k"], probe["knn"]["temperature"]) for probe in probes if probe.get("knn")}
    linear = {probe["linear"]["held_out"] for probe in probes if probe.get("linear")}
    sentences = [f"kNN: cosine, k = {k}, T = {temperature:g} (Wu et al. 2018)." for k, temperature in sorted(knn)]
    for share in sorted(linear):
        sentences.append(
            f"Linear: logistic regression, L2 penalty selected on a held-out {100 * share:g} % of the training split."
        )
    return sentences
