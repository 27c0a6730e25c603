"""`suite report`: everything a grid's finished cells give, written into one folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.cam_options import KINDS, CamOptions, file_name
from analysis.latex import to_latex
from analysis.page import PageFigure, Section, write_page
from analysis.page_build import grid_section, page_figures, report_page
from analysis.results import ResultLine
from analysis.table_text import to_csv, to_text
from analysis.tables import accuracy_table
from suite.data.catalogue import DATASETS
from suite.grid.jobs import JobSpec, PretrainSpec
from suite.grid.recipe import load_profile
from suite.grid.spec import GridSpec, load_grid, published_numbers
from suite.plugin import with_plugins
from suite.store.atomic import write_text
from suite.store.ledger import profile_of, read_cells, result_lines
from suite.store.store import Store
from suite.workspace import Workspace

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Written:
    """A grid's report: what to print, the files, and its part of the page."""

    table: Table
    files: list[Path]
    section: Section
    entries: Sequence[dict[str, Any]]


def check_images(workspace: Workspace, grids: Sequence[str], profile: str | None, cams: CamOptions) -> None:
    """Raise UsageError where a named image is a test image of none of the grids' finished cells."""
    if not cams.files:
        return
    from analysis.cam_images import refuse_unknown

    entries = [entry for name in grids for entry in read_cells(workspace.runs, load_grid(name).name, profile)]
    keys = [entry["measured"]["finetune"] for entry in entries]
    refuse_unknown(workspace, [key for key in keys if workspace.store.result(key) is not None], cams.files)


def write_report(
    workspace: Workspace, grid_name: str, profile: str | None, out: Path, cams: CamOptions | None
) -> Written:
    """Write `<grid>.tex` and `.csv` and, unless `cams` is None, one figure per dataset and kind of CAM, into `out`.

    Raises:
        UsageError: the grid was not run here, or with several profiles and none is chosen.
    """
    grid = with_plugins(load_grid(grid_name))
    profile = profile_of(workspace.runs, grid.name, profile)
    recorded = read_cells(workspace.runs, grid.name, profile)
    rows = {row.name for row in grid.rows}
    entries = [entry for entry in recorded if entry["row"] in rows and entry["dataset"] in grid.datasets]
    store = workspace.store
    lines = [ResultLine.parse(line) for line in result_lines(store, entries)]
    asked = {entry["dataset"] for entry in entries}
    table = accuracy_table(
        grid,
        lines,
        rows=[row.name for row in grid.rows if row.name in {entry["row"] for entry in entries}],
        datasets=[name for name in grid.datasets if name in asked],
        published={} if grid.published is None else published_numbers(grid.published),
        remarks=[*remarks(workspace, entries, profile), *_left_out(recorded, entries)],
        data={name: facts["describe"] for name, facts in _data(entries).items()},
        suspicious=_suspicious(store, entries),
        profile=profile,
    )
    files = [out / f"{grid.name}.tex", out / f"{grid.name}.csv"]
    write_text(files[0], to_latex(table))
    write_text(files[1], to_csv(table))
    figures: list[PageFigure] = []
    if grid.sweep is not None:
        from analysis.scale_figure import scale_figure

        drawn = scale_figure(grid, table, out / f"{grid.name}_figure")
        figures += page_figures(drawn, f"Sweep of {grid.sweep}")
        files += drawn
    if cams is not None:
        for title, drawn in _cam_figures(workspace, grid, entries, out, cams):
            figures += page_figures(drawn, title)
            files += drawn
    section = grid_section(store, grid, profile, table, entries, lines, figures=figures)
    return Written(to_text(table), files, section, [] if grid.sweep else entries)


def write_overview(workspace: Workspace, reports: Sequence[Written], out: Path, cams: CamOptions | None) -> list[Path]:
    """Write what all grids of a report share: the poster's panel, where they have its cells, and the page."""
    sections, files, figures = [report.section for report in reports], list[Path](), list[PageFigure]()
    if cams is not None:
        from analysis.cam_stages import write_panels

        entries = [entry for report in reports for entry in report.entries]
        for panel, drawn in write_panels(workspace, entries, out, cams):
            figures += page_figures(drawn, panel.title)
            files += drawn
    grids = [section.title for section in sections]
    if figures:
        profile = ", ".join(dict.fromkeys(section.profile for section in sections))
        sections.append(
            Section("stages", "One stage and two", profile, "From the cells of all grids.", figures=figures)
        )
    return [*files, write_page(report_page(workspace.store, sections, grids), out)]


def _left_out(recorded: Sequence[dict[str, Any]], shown: Sequence[dict[str, Any]]) -> list[str]:
    """Cells that were run here but belong to rows or datasets that this command does not know."""
    names = {f"{entry['row']} on {entry['dataset']}" for entry in recorded if entry not in shown}
    if not names:
        return []
    return [f"Left out, because the grid has no such row or dataset without its --plugin: {', '.join(sorted(names))}"]


def _specs(workspace: Workspace, entries: Sequence[dict[str, Any]]) -> list[JobSpec]:
    """Specs of every job of these cells that has started."""
    store = workspace.store
    started = [key for entry in entries for key in entry["jobs"] if store.status(key) != "new"]
    return [store.spec(key) for key in dict.fromkeys(started)]


def _data(entries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per dataset: `describe` with its counts, `subset`, `synthetic`, as recorded when the cells were run."""
    return {name: facts for entry in entries for name, facts in entry["data"].items()}


def remarks(workspace: Workspace, entries: Sequence[dict[str, Any]], profile: str) -> list[str]:
    """What a reader of the numbers must know about data, saliency and recipe."""
    specs = _specs(workspace, entries)
    found = []
    note = load_profile(profile).note if profile in {"paper", "small", "demo"} else ""
    if note:
        found.append(f"Scale: {note}")
    for facts in _data(entries).values():
        if facts["synthetic"]:
            found.append(f"{facts['describe']} (images drawn by program, no photographs)")
        elif facts["subset"]:
            found.append(f"{facts['describe']} (a subset of the official data)")
    detectors = {spec.saliency.detector for spec in specs if isinstance(spec, PretrainSpec) and spec.saliency}
    for detector in sorted(detectors):
        oracle = detector in {"boxes", "masks"}
        found.append(f"Saliency: {detector}" + (", an oracle from annotations" if oracle else ""))
    imported = {
        f"{entry['stage1_checkpoint']['name']} (SHA-256 {entry['stage1_checkpoint']['sha256'][:12]})"
        for entry in entries
        if entry["stage1_checkpoint"] is not None
    }
    if imported:
        found.append(f"First stages not trained here but taken from {', '.join(sorted(imported))}")
    changed = {f"{name}={value}" for entry in entries for name, value in entry["set"].items()}
    if changed:
        found.append(f"Changed with --set in some cells: {', '.join(sorted(changed))}")
    return found


def _suspicious(store: Store, entries: Sequence[dict[str, Any]]) -> set[tuple[str, str]]:
    marked = set()
    for entry in entries:
        results = [store.result(key) for key in entry["jobs"]]
        if any(result is not None and result.suspicious for result in results):
            marked.add((entry["row"], entry["dataset"]))
    return marked


def _cam_figures(
    workspace: Workspace, grid: GridSpec, entries: Sequence[dict[str, Any]], out: Path, cams: CamOptions
) -> Iterator[tuple[str, list[Path]]]:
    """Title and files of each figure: one per dataset and kind, of the first seed's fine-tuned networks."""
    from analysis.cam_figure import gradcam_figure

    for dataset in grid.datasets:
        finished = [
            entry
            for entry in entries
            if entry["dataset"] == dataset and workspace.store.result(entry["measured"]["finetune"]) is not None
        ]
        first = min((entry["seed"] for entry in finished), default=None)
        chosen = [entry for entry in finished if entry["seed"] == first]
        for kind in cams.kinds if chosen else ():
            name = KINDS[kind][1].partition(" (")[0]
            title = f"{name} of the fine-tuned networks on {DATASETS[dataset].label}, seed {first}"
            stem = out / f"{grid.name}_{file_name(kind)}_{dataset}"
            yield title, gradcam_figure(workspace, grid, chosen, stem, cams, kind)
