"""The poster's Grad-CAM panel: the same photographs after the first stage, the second stage, and both.

Poster, "Analysis": (a) stage-1 only, (b) stage-2 only, (c) dual stage, for BYOL and BYOL+CVSA on CUB. Its cells come
from two grids: (b) from one without a first stage, (a) and (c) from one with. The paper says no more of BYOL+CVSA's
stage-1 only than that the first stage "trains feature extraction"; here it is the plain method for every row of an
objective (`suite.grid.recipe.first_stage`), so the two methods have one network in (a), which is drawn once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.cam.images import Photographs, finetune_spec, photographs
from analysis.cam.layout import StageMaps, stages_figure
from analysis.cam.networks import network_maps, notes, record
from analysis.cam.options import CamOptions, file_name
from analysis.figures.style import save
from suite.data.catalogue import DATASETS
from suite.store.cells import CellRecord
from suite.workspace import Workspace

METHODS = {"byol": "BYOL", "byol_cvsa": "BYOL+CVSA"}  # the rows of the panel


@dataclass(frozen=True, slots=True)
class StageCells:
    """The cells of one panel. None is a hole."""

    dataset: str
    stage1: str
    profile: str
    seed: int
    cells: dict[tuple[str, str], CellRecord | None]  # (column a, b or c; method) -> a finished cell

    @property
    def title(self) -> str:
        """For people."""
        stage1, dataset = DATASETS[self.stage1].label, DATASETS[self.dataset].label
        return f"One stage and two: first stage on {stage1}, second stage on {dataset}, seed {self.seed}"


def stage_cells(entries: Iterable[CellRecord], finished: set[str]) -> list[StageCells]:
    """The panels that these cells of several grids make up: one per profile, dataset and first stage.

    finished: keys of finished jobs. A panel needs a finished cell without a first stage and one with, of the same
    seed; the seed is the one with the most finished cells.
    """
    found: dict[tuple[str, str], dict[tuple[str, str, str, int], CellRecord]] = {}
    for entry in entries:
        if entry.method in METHODS and entry.measured["finetune"] in finished:
            column = _column(entry)
            cells = found.setdefault((entry.profile, entry.dataset), {})
            cells.setdefault((column, entry.method, entry.stage1, entry.seed), entry)
    panels = []
    for (profile, dataset), cells in found.items():
        for stage1 in sorted({stage1 for _, _, stage1, _ in cells} - {"none"}):
            own = {key: entry for key, entry in cells.items() if key[2] in {"none", stage1}}
            seeds = Counter(seed for *_, seed in own)
            seed = min(seeds, key=lambda seed: (-seeds[seed], seed))
            places = {(c, m): entry for (c, m, _, s), entry in own.items() if s == seed}
            wanted = [("a", "byol"), *((column, method) for column in "bc" for method in METHODS)]
            columns = {column for column, _ in places}
            if "b" in columns and columns & {"a", "c"}:
                panels.append(StageCells(dataset, stage1, profile, seed, {key: places.get(key) for key in wanted}))
    return panels


def _column(entry: CellRecord) -> str:
    """Which column of the panel a cell belongs to."""
    if entry.stage1 == "none":
        return "b"
    return "c" if entry.stage2 == "yes" else "a"


def write_panels(
    workspace: Workspace, entries: Sequence[CellRecord], out: Path, options: CamOptions
) -> list[tuple[StageCells, list[Path]]]:
    """Write every panel that `entries`, the reported cells of all grids, make up; holes are named in it.

    Returns the panels with their files: `stages_<kind>_<first stage>_<dataset>.pdf`, `.png` and `.json`.
    """
    keys = {entry.measured["finetune"] for entry in entries}
    finished = {key for key in keys if workspace.store.result(key) is not None}
    panels = stage_cells(entries, finished)
    several = len({panel.profile for panel in panels}) > 1
    written = []
    for panel in panels:
        for kind in options.kinds:
            name = f"stages_{file_name(kind)}_{panel.stage1}_{panel.dataset}"
            stem = out / (f"{name}_{panel.profile}" if several else name)
            written.append((panel, _write(workspace, panel, stem, options, kind)))
    return written


def _write(workspace: Workspace, panel: StageCells, stem: Path, options: CamOptions, kind: str) -> list[Path]:
    keys = {place: entry.measured["finetune"] for place, entry in panel.cells.items() if entry is not None}
    spec = finetune_spec(workspace.store, next(iter(keys.values())))
    images = photographs(workspace, spec, options)
    holes: dict[str, str] = {}

    def maps(column: str, method: str) -> NDArray[np.float32] | str:
        why = _hole(workspace, panel, (column, method), images)
        if why:
            holes[f"{column}: {METHODS[method]}"] = why
            return why
        return network_maps(workspace, keys[column, method], images, kind)

    first, second = METHODS
    stages = StageMaps(
        methods=(METHODS[first], METHODS[second]),
        first=maps("a", first),
        second=(maps("b", first), maps("b", second)),
        dual=(maps("c", first), maps("c", second)),
    )
    text = [
        *notes(images, spec, options, kind),
        f"First stage: {METHODS[first]} on {DATASETS[panel.stage1].label}, which both methods go on from. "
        f"Profile {panel.profile}.",
    ]
    figure = stages_figure(stages, images.shown, images.names, boxes=images.boxes, notes=text, colours=options.colours)
    networks = {f"{column}: {METHODS[method]}": key for (column, method), key in keys.items()}
    facts = {"stage1": panel.stage1, "profile": panel.profile, "networks": networks, "holes": holes}
    return save(figure, stem, record(images, spec, options, kind) | facts)


def _hole(workspace: Workspace, panel: StageCells, place: tuple[str, str], images: Photographs) -> str:
    """Why there is no map at a place, or nothing where there is one."""
    entry = panel.cells[place]
    if entry is None:
        return f"no finished cell of {METHODS[place[1]]}, seed {panel.seed}"
    key = entry.measured["finetune"]
    if not (workspace.store.checkpoint(key) / "model.safetensors").is_file():
        return "its weights were not found"
    spec = finetune_spec(workspace.store, key)
    facts = images.store.facts
    if (spec.data.fingerprint, spec.data.store_size) != (facts.fingerprint, facts.size):
        return "trained on other data"
    return "" if spec.image_size == images.inputs.shape[-1] else "trained at another input size"
