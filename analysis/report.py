"""`suite report`: write the tables, figures and page of the finished cells into one folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.cam.options import CamOptions, file_name
from analysis.cells.evaluated import evaluated_grid, grid_of_store
from analysis.cells.published import Published
from analysis.cells.remarks import in_order
from analysis.figures.critical_difference import critical_difference_figure
from analysis.figures.localisation import localisation_figure
from analysis.page.build import Creation, grid_section, page_figures, report_page
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
from analysis.tables.retrieval import retrieval_table
from analysis.tables.sweep import axis, sweep_table
from analysis.tables.text import setup_text, tests_csv, to_csv, to_text
from methods.measures.cam_kinds import CAM_KINDS
from suite.atomic import write_text
from suite.data.catalogue import DATASETS
from suite.errors import UsageError
from suite.grid.evaluation import EVALUATION
from suite.grid.spec import GridSpec, grid_file
from suite.kinds.registry import protocols
from suite.store.cells import CellRecord, ResultLine, result_lines
from suite.store.ledger import profile_of, read_cells
from suite.store.store import Store
from suite.workspace import Workspace

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.table import Table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GridReport:
    """The report of one grid: its tables, the written files, and its section of the page."""

    table: Table
    setup: Panel
    files: list[Path]
    section: Section
    records: Sequence[CellRecord]
    metric_tables: list[MetricTable] = field(
        default_factory=list
    )  # probes, localisation, background and further protocols


def grids_run(workspace: Workspace) -> list[str]:
    """Names of the shipped grids with cells in the store. Other grids are named in a warning: the store does not record
    the path of their file.

    Raises:
        UsageError: the store has no cell of a shipped grid.
    """
    recorded = sorted({record.grid for record in read_cells(workspace.runs)})
    shipped = [name for name in recorded if name == EVALUATION or grid_file(name).is_file()]
    others = [name for name in recorded if name not in shipped]
    if not shipped:
        if not others:
            raise UsageError(
                f"nothing was run in {workspace.runs}. Run a grid: suite run --grid NAME. Another store: --runs DIR"
            )
        raise UsageError(
            f"no shipped grid was run in {workspace.runs}: only {', '.join(others)}, from a file. "
            "Name the file: --grid FILE.yaml"
        )
    for name in others:
        log.warning("Left out: %s, which was run from a file. To include it, name all: --grid FILE.yaml ...", name)
    return shipped


def check_images(workspace: Workspace, grids: Sequence[str], profile: str | None, cams: CamOptions) -> None:
    """Raise UsageError if a named image is not a test image of any finished cell of the grids."""
    if not cams.files:
        return
    from analysis.cam.images import refuse_unknown

    records = [
        record
        for name in grids
        for record in read_cells(workspace.runs, grid_of_store(workspace.runs, name).name, profile)
    ]
    keys = [record.measured["finetune"] for record in _fine_tuned(records)]
    refuse_unknown(workspace, [key for key in keys if workspace.store.result(key) is not None], cams.files)


def write_report(
    workspace: Workspace,
    grid_name: str,
    profile: str | None,
    out: Path,
    cams: CamOptions | None,
    published: Published = "paper",
) -> GridReport:
    """Write `<grid>.tex` and `.csv` and, unless `cams` is None, one figure per dataset and kind of CAM, into `out`.

    published: the paper's numbers beside the measured ones; "all" adds those of other works, "none" leaves out both.

    Raises:
        UsageError: the grid was not run here; or with several profiles and none is named; or the seeds of one cell
            differ in their settings.
    """
    grid = grid_of_store(workspace.runs, grid_name)
    profile = profile_of(workspace.runs, grid.name, profile)
    recorded = read_cells(workspace.runs, grid.name, profile)
    records = in_order(grid, recorded)
    store = workspace.store
    lines = result_lines(store, records)
    table = grid_table(store, grid, profile, recorded, lines, published)
    files = [out / f"{grid.name}.tex", out / f"{grid.name}.csv"]
    write_text(files[0], to_latex(table))
    write_text(files[1], to_csv(table))
    if table.comparisons:
        files.append(out / f"{grid.name}_tests.csv")
        write_text(files[-1], tests_csv(table))
    further = metric_tables(store, grid, profile, recorded, lines, published)
    files += [file for metrics in further for file in write_metric_table(metrics, out)]
    figures: list[PageFigure] = []
    if grid.sweep is not None:
        from analysis.figures.sweep import scale_figure

        paths = scale_figure(grid, table, out / f"{grid.name}_figure")
        for dataset, label in zip(table.datasets, table.labels, strict=True):
            dataset_paths = [path for path in paths if len(table.datasets) == 1 or path.stem.endswith(f"_{dataset}")]
            figures += page_figures(dataset_paths, f"Top-1 by {axis(grid.sweep)}, {label}")
        files += paths
    paths = localisation_figure(
        grid, lines, out / f"{grid.name}_accuracy_over_localisation", table.data, table.synthetic
    )
    figures += page_figures(paths, "Accuracy over localisation")
    files += paths
    ranked = critical_difference_figure(grid, table, out / f"{grid.name}_critical_difference")
    figures += [replace(one, notes=[ranked.text]) for one in page_figures(ranked.files, "Critical difference of ranks")]
    files += ranked.files
    if cams is not None:
        for title, paths in _cam_figures(workspace, grid, _fine_tuned(records), out, cams):
            figures += page_figures(paths, title)
            files += paths
    section = grid_section(
        store, grid, profile, table, records, lines, tables=[*map(metric_page_table, further)], figures=figures
    )
    if not ranked.files:
        section = replace(section, ranking_note=ranked.text)
    return GridReport(
        to_text(table), setup_text(table), files, section, [] if grid.sweep else _fine_tuned(records), further
    )


def metric_tables(
    store: Store,
    grid: GridSpec,
    profile: str,
    recorded: Sequence[CellRecord],
    lines: Sequence[ResultLine],
    published: Published = "paper",
) -> list[MetricTable]:
    """The tables of every protocol beside fine-tuning that has numbers. Arguments as of `grid_table`."""
    other = (retrieval_table, localisation_table, background_table)
    tables = [sweep_table(store, grid, profile, recorded, lines)]
    tables += [probe_table(store, grid, profile, recorded, lines, published)]
    tables += [table(store, grid, profile, recorded, lines) for table in other]
    tables += [
        protocol_table(protocol, store, grid, profile, recorded, lines)
        for protocol in protocols().values()
        if protocol.headings
    ]
    # By name: a plugin may measure under the name of a built-in protocol, whose table then shows its numbers.
    by_name: dict[str, MetricTable] = {}
    for table in tables:
        if table is not None:
            by_name.setdefault(table.name, table)
    return list(by_name.values())


def evaluation_tables(workspace: Workspace, profile: str) -> list[MetricTable]:
    """The tables of all backbones that `suite evaluate` measured in this store with a profile."""
    recorded = read_cells(workspace.runs, EVALUATION, profile)
    grid = evaluated_grid(recorded, str(workspace.runs))
    lines = result_lines(workspace.store, recorded)
    return metric_tables(workspace.store, grid, profile, recorded, lines)


def write_overview(
    workspace: Workspace,
    reports: Sequence[GridReport],
    out: Path,
    cams: CamOptions | None,
    creation: Creation | None = None,
) -> list[Path]:
    """Write what the grids of a report share: the page, and the poster's panel if its cells are finished.

    creation: date and command, for the page.
    """
    sections, files, figures = [report.section for report in reports], list[Path](), list[PageFigure]()
    if cams is not None:
        from analysis.cam.stages import write_panels

        records = [record for report in reports for record in report.records]
        for panel, paths in write_panels(workspace, records, out, cams):
            figures += page_figures(paths, panel.title)
            files += paths
    grids = [section.title for section in sections]
    if figures:
        profile = ", ".join(dict.fromkeys(section.profile for section in sections))
        sections.append(
            Section("stages", "One stage and two", profile, "From the cells of all grids.", figures=figures)
        )
    return [*files, write_page(report_page(workspace.store, sections, grids, creation), out)]


def _fine_tuned(records: Sequence[CellRecord]) -> list[CellRecord]:
    """The records with a fine-tuned network, which Grad-CAM needs."""
    return [record for record in records if "finetune" in record.measured]


def _with_weights(store: Store, records: Sequence[CellRecord]) -> list[CellRecord]:
    """The records whose fine-tuned weights exist. The others are named in a warning; their numbers stay valid."""

    def has_weights(record: CellRecord) -> bool:
        return (store.checkpoint(record.measured["finetune"]) / "model.safetensors").is_file()

    for record in (record for record in records if not has_weights(record)):
        log.warning(
            "No Grad-CAM of %s/%s/%s: weights not found. To regenerate them, delete %s and run the grid again.",
            record.row, record.dataset, record.seed, store.folder(record.measured["finetune"]),
        )  # fmt: skip
    return [record for record in records if has_weights(record)]


def _cam_figures(
    workspace: Workspace, grid: GridSpec, records: Sequence[CellRecord], out: Path, cams: CamOptions
) -> Iterator[tuple[str, list[Path]]]:
    """Title and files of each figure: one per dataset and kind, of the first seed's fine-tuned networks."""
    from analysis.cam.networks import gradcam_figure

    for dataset in grid.datasets:
        finished = [
            record
            for record in records
            if record.dataset == dataset and workspace.store.result(record.measured["finetune"]) is not None
        ]
        first = min((record.seed for record in finished), default=None)
        shown = _with_weights(workspace.store, [record for record in finished if record.seed == first])
        for kind in cams.kinds if shown else ():
            name = CAM_KINDS[kind][1].partition(" (")[0]
            label = DATASETS[dataset].heading(shown[0].data[dataset].synthetic)
            title = f"{name} of the fine-tuned networks on {label}, seed {first}"
            stem = out / f"{grid.name}_{file_name(kind)}_{dataset}"
            yield title, gradcam_figure(workspace, grid, shown, stem, cams, kind)
