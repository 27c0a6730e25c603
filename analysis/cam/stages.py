"""The poster's Grad-CAM panel: the same photographs after the first stage, the second stage, and both.

Poster, "Analysis": (a) stage-1 only, (b) stage-2 only, (c) dual stage, for BYOL and BYOL+CVSA on CUB. Its cells come
from two grids: (b) from one without a first stage, (a) and (c) from one with. The poster's (a) has different maps for
the two methods; the paper says of the first stage only that it "trains feature extraction". There are two panels, one
for each method of the first stage (`suite.grid.recipe.first_stage`):

- plain: both methods start from one network of BYOL, which (a) shows once.
- own: BYOL+CVSA starts from a network that was trained by BYOL+CVSA, and (a) shows one network per method. Its cells
  have `first_stage: own` and come from a grid such as `first_stages`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.cam.images import FigureImages, figure_images, finetune_spec
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
    """The cells of one panel. None where a cell is missing."""

    dataset: str
    stage1: str
    profile: str
    seed: int
    cells: dict[tuple[str, str], CellRecord | None]  # (column a, b or c; method) -> a finished cell
    own_first_stage: bool = False  # trained by each method itself

    @property
    def title(self) -> str:
        """For people."""
        stage1, dataset = DATASETS[self.stage1].label, DATASETS[self.dataset].label
        method = " by each method itself" * self.own_first_stage
        return f"One stage and two: first stage on {stage1}{method}, second stage on {dataset}, seed {self.seed}"

    @property
    def first(self) -> tuple[str, ...]:
        """The methods of column (a)."""
        return tuple(METHODS) if self.own_first_stage else ("byol",)


def stage_cells(entries: Iterable[CellRecord], finished: set[str]) -> list[StageCells]:
    """The panels that these cells of several grids make up: one per profile, dataset, first stage and its method.

    finished: keys of finished jobs. A panel needs a finished cell without a first stage and one with, of the same
    seed; the seed is the one with the most finished cells. The panel of own first stages needs a cell with such a
    stage.
    """
    groups: dict[tuple[str, str], list[CellRecord]] = {}
    for entry in entries:
        if entry.method in METHODS and entry.measured["finetune"] in finished:
            groups.setdefault((entry.profile, entry.dataset), []).append(entry)
    panels = []
    for records in groups.values():
        for stage1 in sorted({entry.stage1 for entry in records} - {"none"}):
            for own_first_stage in (False, True):
                panels += _panel(
                    [e for e in records if e.stage1 in {"none", stage1} and _in_panel(e, own_first_stage)],
                    stage1,
                    own_first_stage,
                )
    return panels


def _in_panel(entry: CellRecord, own_first_stage: bool) -> bool:
    """Whether a cell belongs to the panel of own first stages, or to that of plain ones. BYOL's are the same."""
    return (
        (entry.first_stage == "own") == own_first_stage
        or entry.stage1 == "none"
        or (own_first_stage and entry.method == "byol")
    )


def _panel(records: Sequence[CellRecord], stage1: str, own_first_stage: bool) -> list[StageCells]:
    """The panel of the cells of one profile, dataset and first stage; empty where they make up none."""
    cells: dict[tuple[str, str, int], CellRecord] = {}
    for entry in records:
        cells.setdefault((_column(entry), entry.method, entry.seed), entry)
    seeds = Counter(seed for *_, seed in cells)
    if not seeds:
        return []
    seed = min(seeds, key=lambda seed: (-seeds[seed], seed))
    by_position = {(column, method): entry for (column, method, s), entry in cells.items() if s == seed}
    columns = {column for column, _ in by_position}
    if not ("b" in columns and columns & {"a", "c"}):
        return []
    if own_first_stage and not any(entry.first_stage == "own" for entry in by_position.values()):
        return []
    panel = StageCells(records[0].dataset, stage1, records[0].profile, seed, {}, own_first_stage)
    positions = [
        *(("a", method) for method in panel.first),
        *((column, method) for column in "bc" for method in METHODS),
    ]
    return [replace(panel, cells={position: by_position.get(position) for position in positions})]


def _column(entry: CellRecord) -> str:
    """Which column of the panel a cell belongs to."""
    if entry.stage1 == "none":
        return "b"
    return "c" if entry.stage2 == "yes" else "a"


def write_panels(
    workspace: Workspace, entries: Sequence[CellRecord], out: Path, options: CamOptions
) -> list[tuple[StageCells, list[Path]]]:
    """Write every panel that `entries`, the reported cells of all grids, make up; missing cells are named in it.

    Returns the panels with their files: `stages_<kind>_<first stage>_<dataset>.pdf`, `.png` and `.json`; the first
    stage is `coco`, or `coco_own` in the panel of own first stages.
    """
    keys = {entry.measured["finetune"] for entry in entries}
    finished = {key for key in keys if workspace.store.result(key) is not None}
    panels = stage_cells(entries, finished)
    several = len({panel.profile for panel in panels}) > 1
    written = []
    for panel in panels:
        for kind in options.kinds:
            name = f"stages_{file_name(kind)}_{panel.stage1}{'_own' * panel.own_first_stage}_{panel.dataset}"
            stem = out / (f"{name}_{panel.profile}" if several else name)
            written.append((panel, _write(workspace, panel, stem, options, kind)))
    return written


def _write(workspace: Workspace, panel: StageCells, stem: Path, options: CamOptions, kind: str) -> list[Path]:
    keys = {position: entry.measured["finetune"] for position, entry in panel.cells.items() if entry is not None}
    spec = finetune_spec(workspace.store, next(iter(keys.values())))
    images = figure_images(workspace, spec, options)
    missing: dict[str, str] = {}

    def maps(column: str, method: str) -> NDArray[np.float32] | str:
        reason = _missing_reason(workspace, panel, (column, method), images)
        if reason:
            missing[f"{column}: {METHODS[method]}"] = reason
            return reason
        return network_maps(workspace, keys[column, method], images, kind)

    first, second = METHODS
    stages = StageMaps(
        methods=(METHODS[first], METHODS[second]),
        first=(maps("a", first), maps("a", second)) if panel.own_first_stage else maps("a", first),
        second=(maps("b", first), maps("b", second)),
        dual=(maps("c", first), maps("c", second)),
    )
    stage1 = DATASETS[panel.stage1].label
    text = [
        *notes(images, spec, options, kind),
        f"First stage on {stage1}: {METHODS[first]} and {METHODS[second]}, each from its own network."
        if panel.own_first_stage
        else f"First stage: {METHODS[first]} on {stage1}; both methods start from this network.",
        f"Profile {panel.profile}.",
    ]
    figure = stages_figure(
        stages, images.display, images.names, boxes=images.boxes, notes=text, colours=options.colours
    )
    networks = {f"{column}: {METHODS[method]}": key for (column, method), key in keys.items()}
    facts: dict[str, object] = {
        "stage1": panel.stage1,
        "profile": panel.profile,
        "networks": networks,
        "holes": missing,
    }
    facts |= {"first_stage": "own"} if panel.own_first_stage else {}
    return save(figure, stem, record(images, spec, options, kind) | facts)


def _missing_reason(workspace: Workspace, panel: StageCells, position: tuple[str, str], images: FigureImages) -> str:
    """Why there is no map at a (column, method), or nothing where there is one."""
    entry = panel.cells[position]
    if entry is None:
        return f"no finished cell of {METHODS[position[1]]}, seed {panel.seed}"
    key = entry.measured["finetune"]
    if not (workspace.store.checkpoint(key) / "model.safetensors").is_file():
        return "its weights were not found"
    spec = finetune_spec(workspace.store, key)
    facts = images.store.facts
    if (spec.data.fingerprint, spec.data.store_size) != (facts.fingerprint, facts.size):
        return "trained on other data"
    return "" if spec.image_size == images.inputs.shape[-1] else "trained at another input size"
