"""The localisation table: feature maps, Grad-CAM and baselines without a network, against the official boxes."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.cells import remarks
from analysis.tables.captions import metric_caption
from analysis.tables.metrics import Column, MetricTable, blocks, images_tested, seeds_note, title
from suite.data.saliency.detectors import DETECTORS
from suite.grid.spec import GridSpec
from suite.store.cells import CellRecord, ResultLine
from suite.store.store import Store

PROTOCOL = "localisation"
_MEASURES = {"pointing": "Pointing", "energy": "Energy", "maxboxacc": "MaxBoxAcc", "pxap": "PxAP"}
_MAPS = {"act": "Feat.", "cam": "CAM"}


def localisation_table(
    store: Store, grid: GridSpec, profile: str, recorded: Sequence[CellRecord], lines: Sequence[ResultLine]
) -> MetricTable | None:
    """The table of the recorded cells; None without results. `lines`: the results of the cells."""
    metrics = {line.metric for line in lines if (line.grid, line.protocol) == (grid.name, PROTOCOL)}
    measures = [measure for measure in _MEASURES if f"act_{measure}" in metrics]
    columns = tuple(
        Column(f"{map_}_{m}", label, _MEASURES[m])
        for m in measures
        for map_, label in _MAPS.items()
        if f"{map_}_{m}" in metrics  # frozen rows have no fine-tuned network, hence no Grad-CAM
    )
    labels = {"centre": "Centre", "whole": "Whole image"} | {name: _detector(name) for name in DETECTORS}
    baselines = {name: (label, [f"{name}_{m}" for m in measures]) for name, label in labels.items()}
    records = remarks.in_order(grid, recorded)
    suspicious = remarks.suspicions(remarks.results_of(store, records), records)
    blocks_shown = blocks(grid, lines, PROTOCOL, columns, suspicious, baselines, best=True)
    if not blocks_shown:
        return None
    notes = [
        "In percent, on official boxes. Feat.: squared norm of the features at each position of the last stage of the "
        "pretrained backbone (random weights where there is no pretraining); uses no labels. "
        + ("CAM: Grad-CAM of the fine-tuned network for the true class. " if "cam_pointing" in metrics else "")
        + "Below the rows: maps that need no network.",
        *remarks.caption_sentences(grid, recorded),
        f"Test images with an official box, whole image as input: {images_tested(blocks_shown)}.",
        "Pointing: the maximum of the map is inside the box. Energy: share of the map inside the box. MaxBoxAcc: mean "
        "over IoU .3, .5 and .7, at thresholds selected on boxes of training images.",
        *(["PxAP: pixel average precision, on official masks."] if "pxap" in measures else []),
        *_flat(grid, lines),
        seeds_note(blocks_shown) + " Best of the rows in bold.",
    ]
    name, heading, data = f"{grid.name}_{PROTOCOL}", title("Where the networks look", grid), remarks.data_used(records)
    return MetricTable(
        name,
        heading,
        profile,
        PROTOCOL,
        columns,
        blocks_shown,
        metric_caption("Activation maps against official boxes, in percent.", profile, records, blocks_shown),
        tuple(notes),
        data,
        remarks.datasets_with("synthetic", records),
    )


def _detector(name: str) -> str:
    return f"Saliency {name}" + (" (oracle)" if DETECTORS[name].oracle else "")


def _flat(grid: GridSpec, lines: Sequence[ResultLine]) -> list[str]:
    """A sentence on Grad-CAM maps that are zero everywhere; none if there are no such maps."""
    shares = [
        line.value for line in lines if (line.grid, line.protocol, line.metric) == (grid.name, PROTOCOL, "cam_flat")
    ]
    if not any(shares):
        return []
    return [
        f"Grad-CAM maps that are zero everywhere (at most {max(shares):.1f} % of a cell's) count as the whole image."
    ]
