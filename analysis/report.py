"""`suite report`: everything a grid's finished cells give, written into one folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.cam.options import CamOptions, file_name
from analysis.cells.remarks import in_order
from analysis.figures.localisation import localisation_figure
from analysis.page.build import grid_section, page_figures, report_page
from analysis.page.model import PageFigure, Section, write_page
from analysis.page.tables import metric_page_table
from analysis.tables.background import background_table
from analysis.tables.grid import grid_table
from analysis.tables.latex import to_latex
from analysis.tables.localisation import localisation_table
from analysis.tables.metrics import MetricTable
from analysis.tables.metrics_text import write_metric_table
from analysis.tables.probe import probe_table
from analysis.tables.protocol import protocol_table
from analysis.tables.text import tests_csv, to_csv, to_text
from methods.measures.cam_kinds import KINDS
from suite.atomic import write_text
from suite.data.catalogue import DATASETS
from suite.errors import UsageError
from suite.grid.spec import GridSpec, grid_file, load_grid
from suite.kinds.registry import protocols
from suite.plugin import with_plugins
from suite.store.cells import CellRecord, result_lines
from suite.store.ledger import profile_of, read_cells
from suite.store.store import Store
from suite.workspace import Workspace

if TYPE_CHECKING:
    from rich.table import Table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """A grid's report: what to print, the files, and its part of the page."""

    table: Table
    files: list[Path]
    section: Section
    entries: Sequence[CellRecord]
    more: list[MetricTable] = field(default_factory=list)  # probes, localisation, background: what was measured


def grids_run(workspace: Workspace) -> list[str]:
    """Names of the shipped grids of which cells are recorded in the store; one that is not shipped is named in the log,
    for where its file is is not recorded.

    Raises:
        UsageError: there is none.
    """
    recorded = sorted({entry.grid for entry in read_cells(workspace.runs)})
    shipped = [name for name in recorded if grid_file(name).is_file()]
    others = [name for name in recorded if name not in shipped]
    if not shipped:
        was_run = f"only {', '.join(others)}, from a file: name it, --grid FILE.yaml" if others else "nothing"
        raise UsageError(f"no shipped grid was run in {workspace.runs}: {was_run}. `suite run --grid NAME` runs one.")
    for name in others:
        log.warning("Left out: %s, which was run from a file. To include it, name all: --grid FILE.yaml ...", name)
    return shipped


def check_images(workspace: Workspace, grids: Sequence[str], profile: str | None, cams: CamOptions) -> None:
    """Raise UsageError where a named image is a test image of none of the grids' finished cells."""
    if not cams.files:
        return
    from analysis.cam.images import refuse_unknown

    entries = [entry for name in grids for entry in read_cells(workspace.runs, load_grid(name).name, profile)]
    keys = [entry.measured["finetune"] for entry in entries]
    refuse_unknown(workspace, [key for key in keys if workspace.store.result(key) is not None], cams.files)


def write_report(
    workspace: Workspace, grid_name: str, profile: str | None, out: Path, cams: CamOptions | None
) -> Written:
    """Write `<grid>.tex` and `.csv` and, unless `cams` is None, one figure per dataset and kind of CAM, into `out`.

    Raises:
        UsageError: the grid was not run here, with several profiles and none is chosen, or with seeds of one cell that
            differ in their settings.
    """
    grid = with_plugins(load_grid(grid_name))
    profile = profile_of(workspace.runs, grid.name, profile)
    recorded = read_cells(workspace.runs, grid.name, profile)
    entries = in_order(grid, recorded)
    store = workspace.store
    lines = result_lines(store, entries)
    table = grid_table(store, grid, profile, recorded, lines)
    files, more = [out / f"{grid.name}.tex", out / f"{grid.name}.csv"], list[MetricTable]()
    write_text(files[0], to_latex(table))
    write_text(files[1], to_csv(table))
    if table.comparisons:
        files.append(out / f"{grid.name}_tests.csv")
        write_text(files[-1], tests_csv(table))
    for measured in (probe_table, localisation_table, background_table):
        if (metrics := measured(store, grid, profile, recorded, lines)) is not None:
            more.append(metrics)
    for protocol in protocols().values():
        if protocol.headings:
            metrics = protocol_table(protocol, store, grid, profile, recorded, lines)
            more += [] if metrics is None else [metrics]
    files += [file for metrics in more for file in write_metric_table(metrics, out)]
    figures: list[PageFigure] = []
    if grid.sweep is not None:
        from analysis.figures.sweep import scale_figure

        drawn = scale_figure(grid, table, out / f"{grid.name}_figure")
        figures += page_figures(drawn, f"Sweep of {grid.sweep}")
        files += drawn
    drawn = localisation_figure(grid, lines, out / f"{grid.name}_accuracy_over_localisation", table.data, table.drawn)
    figures += page_figures(drawn, "Accuracy over localisation")
    files += drawn
    if cams is not None:
        for title, drawn in _cam_figures(workspace, grid, entries, out, cams):
            figures += page_figures(drawn, title)
            files += drawn
    section = grid_section(
        store, grid, profile, table, entries, lines, tables=[*map(metric_page_table, more)], figures=figures
    )
    return Written(to_text(table), files, section, [] if grid.sweep else entries, more)


def write_overview(workspace: Workspace, reports: Sequence[Written], out: Path, cams: CamOptions | None) -> list[Path]:
    """Write what all grids of a report share: the poster's panel, where they have its cells, and the page."""
    sections, files, figures = [report.section for report in reports], list[Path](), list[PageFigure]()
    if cams is not None:
        from analysis.cam.stages import write_panels

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


def _with_weights(store: Store, entries: Sequence[CellRecord]) -> list[CellRecord]:
    """Those whose fine-tuned network is still there; the others are named, their numbers stand."""

    def there(entry: CellRecord) -> bool:
        return (store.checkpoint(entry.measured["finetune"]) / "model.safetensors").is_file()

    for entry in (entry for entry in entries if not there(entry)):
        log.warning(
            "No Grad-CAM of %s/%s/%s: its weights are gone. To make them anew, delete %s and run the grid again.",
            entry.row, entry.dataset, entry.seed, store.folder(entry.measured["finetune"]),
        )  # fmt: skip
    return [entry for entry in entries if there(entry)]


def _cam_figures(
    workspace: Workspace, grid: GridSpec, entries: Sequence[CellRecord], out: Path, cams: CamOptions
) -> Iterator[tuple[str, list[Path]]]:
    """Title and files of each figure: one per dataset and kind, of the first seed's fine-tuned networks."""
    from analysis.cam.networks import gradcam_figure

    for dataset in grid.datasets:
        finished = [
            entry
            for entry in entries
            if entry.dataset == dataset and workspace.store.result(entry.measured["finetune"]) is not None
        ]
        first = min((entry.seed for entry in finished), default=None)
        chosen = _with_weights(workspace.store, [entry for entry in finished if entry.seed == first])
        for kind in cams.kinds if chosen else ():
            name = KINDS[kind][1].partition(" (")[0]
            label = DATASETS[dataset].heading(chosen[0].data[dataset].synthetic)
            title = f"{name} of the fine-tuned networks on {label}, seed {first}"
            stem = out / f"{grid.name}_{file_name(kind)}_{dataset}"
            yield title, gradcam_figure(workspace, grid, chosen, stem, cams, kind)
