"""Build the report page of one or several grids from their tables, their figures and the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from analysis.page.cells import cell_details, problems
from analysis.page.compare import comparisons
from analysis.page.curves import curve_rows
from analysis.page.jobs import job_details, training_seconds
from analysis.page.model import Page, PageFigure, PageTable, Section
from analysis.page.tables import html_id, page_table
from analysis.tables.accuracy import Table
from analysis.tables.notes import row_label
from suite.data.catalogue import DATASETS
from suite.grid.spec import GridSpec
from suite.store.cells import CellRecord, ResultLine
from suite.store.ledger import read_cells
from suite.store.store import Store
from suite.text import duration


@dataclass(frozen=True, slots=True)
class Creation:
    """When a page was made, and by which command."""

    date: str
    command: str


def grid_section(
    store: Store,
    grid: GridSpec,
    profile: str,
    table: Table,
    records: Sequence[CellRecord],
    lines: Sequence[ResultLine],
    *,
    tables: Sequence[PageTable] = (),
    figures: Sequence[PageFigure] = (),
) -> Section:
    """The section of one grid: one box with the setup, accuracy table, `tables`, `figures`, curves, cells and problems.

    records: of the grid's cells; empty if the numbers come from another source.
    """
    cells = cell_details(store, grid, table, records, lines)
    recorded = {record.row_and_dataset for record in records}
    complete = [all(store.result(key) is not None for key in record.jobs) for record in records]
    left_out = [
        f"{row_label(row)} ({'all datasets' if len(missing) == len(grid.datasets) else ', '.join(missing)})"
        for row in grid.rows
        if (missing := [DATASETS[name].label for name in grid.datasets if (row.name, name) not in recorded])
    ]
    summary = [f"{sum(complete)} of {len(records)} cells complete, counting every seed."] if records else []
    if left_out and records:
        summary.append(f"Not run in this store: {', '.join(left_out)}.")
    others = sorted({record.profile for record in read_cells(store.root, grid.name)} - {profile})
    if others:
        summary.append(f"Also run with the profile {', '.join(others)}, which is not shown here.")
    curves = curve_rows(store, table, records)
    legend = [*table.labels, *dict.fromkeys(_first_stage(record) for record in records if record.stage1 != "none")]
    return Section(
        id=html_id("grid", grid.name),
        title=grid.name,
        profile=profile,
        summary=" ".join(summary),
        setup=table.notes,
        tables=[
            replace(one, notes=[note for note in one.notes if note not in table.notes])
            for one in (page_table(table, [cell.id for cell in cells]), *tables)
        ],
        figures=figures,
        curves=curves,
        legend=legend if curves else (),
        cells=cells,
        reference=grid.reference_row,
        comparisons=comparisons(store, grid, profile, records, lines),
        problems=problems(store, grid, records),
    )


def page_figures(files: Sequence[Path], title: str) -> list[PageFigure]:
    """The PNGs among the files of one figure. The JSON beside them names the images for the caption."""
    facts: dict[str, Any] = next((json.loads(path.read_text("utf-8")) for path in files if path.suffix == ".json"), {})
    notes = [f"Images: {', '.join(PurePosixPath(name).name for name in facts['images'])}."] if "images" in facts else []
    pdfs = {path.stem: path.read_bytes() for path in files if path.suffix == ".pdf"}
    return [
        PageFigure(html_id("figure", path.stem), title, notes, path.read_bytes(), path.stem, pdfs.get(path.stem, b""))
        for path in files
        if path.suffix == ".png"
    ]


def report_page(
    store: Store, sections: Sequence[Section], grids: Sequence[str], creation: Creation | None = None
) -> Page:
    """The page of all sections of a report on `grids`.

    creation: the date and the command. Without them the page holds no date and no path: the same store, the same bytes.
    """
    seeds = [seed for section in sections for cell in section.cells for seed in cell.seeds]
    keys = list(dict.fromkeys(key for seed in seeds for _, key, _ in seed.jobs))
    jobs, environments = job_details(store, keys)
    names = ", ".join(grids)
    done = sum(job.state == "done" for job in jobs)
    summary = [f"Profile {', '.join(dict.fromkeys(section.profile for section in sections))}"]
    if keys:
        summary += [
            f"{done} of {len(keys)} jobs done",
            f"{duration(training_seconds(store, keys))} of training",
        ]
    commits = sorted({job.commit for job in jobs if job.commit})
    provenance = [
        ("Grids", names),
        ("Made on", "not said" if creation is None else creation.date),
        (
            "Command",
            creation.command if creation is not None else "suite report " + " ".join(f"--grid {g}" for g in grids),
        ),
        ("Commits of the code", ", ".join(commits) or "not recorded"),
        ("Seeds", ", ".join(map(str, sorted({seed.seed for seed in seeds}))) or "none"),
    ]
    return Page(
        title=f"Report: {names}",
        summary=summary,
        sections=sections,
        jobs=jobs,
        environments=environments,
        provenance=provenance,
        creation="" if creation is None else f"{creation.date} by {creation.command}",
    )


def _first_stage(record: CellRecord) -> str:
    return f"{DATASETS[record.stage1].label}, the first stage"
