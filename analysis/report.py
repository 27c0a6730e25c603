"""`suite report`: everything a grid's finished cells give, written into one folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.background_table import background_table
from analysis.grid_table import grid_table
from analysis.latex import to_latex
from analysis.localisation_table import localisation_table
from analysis.metric_table import MetricTable
from analysis.metric_text import write_metric_table
from analysis.remarks import in_order
from analysis.results import ResultLine
from analysis.table_text import tests_csv, to_csv, to_text
from suite.grid.spec import GridSpec, load_grid
from suite.plugin import with_plugins
from suite.store.atomic import write_text
from suite.store.ledger import profile_of, read_cells, result_lines
from suite.store.store import Store
from suite.workspace import Workspace

if TYPE_CHECKING:
    from rich.table import Table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """A grid's report: what to print, and the files."""

    table: Table
    files: list[Path]
    more: list[MetricTable] = field(default_factory=list)  # localisation and background, where they were measured


def write_report(workspace: Workspace, grid_name: str, profile: str | None, out: Path, images: int) -> Written:
    """Write `<grid>.tex` and `.csv` and, with `images` > 0, one Grad-CAM figure per dataset, into `out`.

    Raises:
        UsageError: the grid was not run here, with several profiles and none is chosen, or with seeds of one cell that
            differ in their settings.
    """
    grid = with_plugins(load_grid(grid_name))
    profile = profile_of(workspace.runs, grid.name, profile)
    recorded = read_cells(workspace.runs, grid.name, profile)
    entries = in_order(grid, recorded)
    store = workspace.store
    lines = [ResultLine.parse(line) for line in result_lines(store, entries)]
    table = grid_table(store, grid, profile, recorded, lines)
    files, more = [out / f"{grid.name}.tex", out / f"{grid.name}.csv"], list[MetricTable]()
    write_text(files[0], to_latex(table))
    write_text(files[1], to_csv(table))
    if table.comparisons:
        files.append(out / f"{grid.name}_tests.csv")
        write_text(files[-1], tests_csv(table))
    for measured in (localisation_table, background_table):
        if (metrics := measured(store, grid, profile, recorded, lines)) is not None:
            files += write_metric_table(metrics, out)
            more.append(metrics)
    if grid.sweep is not None:
        from analysis.scale_figure import scale_figure

        files += scale_figure(grid, table, out / f"{grid.name}_figure")
    if more:
        from analysis.localisation_figure import localisation_figure

        files += localisation_figure(grid, lines, out / f"{grid.name}_accuracy_over_localisation", table.data)
    if images:
        files += _figures(workspace, grid, entries, out, images)
    return Written(to_text(table), files, more)


def _with_weights(store: Store, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose fine-tuned network is still there; the others are named, their numbers stand."""

    def there(entry: dict[str, Any]) -> bool:
        return (store.checkpoint(entry["measured"]["finetune"]) / "model.safetensors").is_file()

    for entry in (entry for entry in entries if not there(entry)):
        log.warning(
            "No Grad-CAM of %s/%s/%s: its weights are gone. To make them anew, delete %s and run the grid again.",
            entry["row"], entry["dataset"], entry["seed"], store.folder(entry["measured"]["finetune"]),
        )  # fmt: skip
    return [entry for entry in entries if there(entry)]


def _figures(
    workspace: Workspace, grid: GridSpec, entries: Sequence[dict[str, Any]], out: Path, images: int
) -> list[Path]:
    """One Grad-CAM figure per dataset, of the first seed's fine-tuned networks."""
    from analysis.cam_figure import gradcam_figure

    files: list[Path] = []
    for dataset in grid.datasets:
        finished = [
            entry
            for entry in entries
            if entry["dataset"] == dataset and workspace.store.result(entry["measured"]["finetune"]) is not None
        ]
        first = min((entry["seed"] for entry in finished), default=None)
        chosen = _with_weights(workspace.store, [entry for entry in finished if entry["seed"] == first])
        if chosen:
            files += gradcam_figure(workspace, grid, chosen, out / f"{grid.name}_gradcam_{dataset}", images)
    return files
