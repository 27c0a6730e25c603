"""The table of where networks look: localisation on the official boxes, beside what needs no network."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.cells import remarks as say
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
    """The table of the recorded cells; None where nothing was measured. `lines` are their results."""
    metrics = {line.metric for line in lines if (line.grid, line.protocol) == (grid.name, PROTOCOL)}
    measures = [measure for measure in _MEASURES if f"act_{measure}" in metrics]
    columns = tuple(Column(f"{map_}_{m}", label, _MEASURES[m]) for m in measures for map_, label in _MAPS.items())
    known = {"centre": "Centre", "whole": "Whole image"} | {name: _detector(name) for name in DETECTORS}
    baselines = {name: (label, [f"{name}_{m}" for m in measures]) for name, label in known.items()}
    entries = say.in_order(grid, recorded)
    suspicious = say.suspicions(say.results_of(store, entries), entries)
    found = blocks(grid, lines, PROTOCOL, columns, suspicious, baselines, best=True)
    if not found:
        return None
    notes = [
        "In percent, on official boxes. Feat.: squared norm of the features at each place of the pretrained backbone's "
        "last stage (untrained where nothing was pretrained), no label used. CAM: Grad-CAM of the fine-tuned network "
        "for the image's true class. Below the rows, maps that know no network.",
        *say.sentences(grid, profile, recorded),
        f"Test images with an official box, seen whole: {images_tested(found)}.",
        "Pointing: the highest place is inside the box. Energy: share of the map inside the box. MaxBoxAcc: mean over "
        "overlaps of .3, .5 and .7, at thresholds chosen on boxes of training images.",
        *(["PxAP: average precision of pixels, on official masks."] if "pxap" in measures else []),
        *_flat(grid, lines),
        seeds_note(found) + " Best of the rows in bold.",
    ]
    name, heading, data = f"{grid.name}_{PROTOCOL}", title("Where the networks look", grid), say.data_used(entries)
    return MetricTable(
        name, heading, profile, PROTOCOL, columns, found, tuple(notes), data, say.datasets_with("synthetic", entries)
    )


def _detector(name: str) -> str:
    return f"Saliency {name}" + (" (oracle)" if DETECTORS[name].oracle else "")


def _flat(grid: GridSpec, lines: Sequence[ResultLine]) -> list[str]:
    """How often Grad-CAM was zero everywhere, where it was at all."""
    shares = [
        line.value for line in lines if (line.grid, line.protocol, line.metric) == (grid.name, PROTOCOL, "cam_flat")
    ]
    if not any(shares):
        return []
    return [
        f"Grad-CAM maps that are zero everywhere (at most {max(shares):.1f} % of a cell's) count as the whole image."
    ]
