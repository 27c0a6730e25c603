"""`suite publish`: report, model cards and chosen weights of some grids as one folder for a web server or the Hub.

```
index.html       what there is, with the main tables
published.json   the same for programs
README.md        the card of the folder on the Hugging Face Hub
report/          page, CSV, LaTeX and figures of `suite report`, without the figures that show images of the datasets
models/<name>/   README.md, config.json and model.safetensors of a cell
```

Everything is written below a temporary name, cleared of machine paths, names and secrets, searched for what may have
been missed, and only then moved to its place.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from analysis.cells.evaluated import grid_of_store
from analysis.cells.remarks import in_order
from analysis.page.build import report_page
from analysis.page.model import Page, write_page
from analysis.publish.anonymous import Anonymiser
from analysis.publish.describe import commits, published_grid
from analysis.publish.record import FILE, Published, PublishedModel
from analysis.publish.summary import grid_tables
from analysis.publish.templating import render
from analysis.report import write_report
from suite import __version__
from suite.atomic import atomic_folder, write_text
from suite.errors import UsageError
from suite.store.ledger import profile_of, read_cells
from suite.store.store import sha256
from suite.workspace import Workspace

if TYPE_CHECKING:
    from analysis.export.export import Stage

STAGES: dict[str, Stage] = {"pretrained": "pretrained", "finetuned": "finetuned"}
_TEXT = {".csv", ".tex", ".json", ".md"}


@dataclass(frozen=True)
class PublicationOptions:
    """What is published of the grids.

    Args:
        grids: names or YAML files.
        profile: needed if a grid was run with several.
        cells: ids of the cells whose networks are published, such as ``byol/cub/0``.
        stage: of these networks.
        weights: with the weights; else their cards only.
        title: of the page; default the names of the grids.
    """

    grids: Sequence[str]
    profile: str | None = None
    cells: Sequence[str] = ()
    stage: Stage = "pretrained"
    weights: bool = True
    title: str | None = None


def publish(workspace: Workspace, options: PublicationOptions, out: Path, date: str | None = None) -> Published:
    """Write the folder `out` and return its record.

    An earlier publication in `out` is replaced: the files that it lists are deleted. Other files in `out` stay.

    Args:
        workspace: of the results.
        options: what is published.
        out: folder to write to.
        date: of publication, YYYY-MM-DD; default today, UTC.

    Raises:
        UsageError: a grid without a finished cell, an unknown cell, or an `out` that holds other things.
        StoreError: weights are missing or damaged, or something that must not be published was found.
    """
    _refuse_foreign(out)
    anonymous = Anonymiser.of_machine((workspace.runs, workspace.data, workspace.cache, out))
    staging = out.with_name(f"{out.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    with atomic_folder(staging) as folder:
        record = _write(workspace, options, folder, anonymous, date or datetime.now(UTC).strftime("%Y-%m-%d"))
        anonymous.check(folder)
    _replace(staging, out, record)
    return record


def _write(
    workspace: Workspace, options: PublicationOptions, folder: Path, anonymous: Anonymiser, date: str
) -> Published:
    models = _models(workspace, options, folder)
    page, grids, recipes, records = None, [], {}, []
    sections = []
    for name in dict.fromkeys(options.grids):
        grid = grid_of_store(workspace.runs, name)
        profile = profile_of(workspace.runs, grid.name, options.profile)
        grid_records = in_order(grid, read_cells(workspace.runs, grid.name, profile))
        described, cell_recipes = published_grid(workspace.store, grid, profile, grid_records, anonymous)
        if not described.cells:
            raise UsageError(f"no cell of grid {grid.name} is finished in {workspace.runs}: nothing to publish.")
        sections.append(write_report(workspace, name, profile, folder / "report", None).section)
        grids.append(described)
        recipes.update(cell_recipes)
        records += grid_records
    page = report_page(workspace.store, sections, [section.title for section in sections])
    write_page(anonymous.tree(without_logs(page)), folder / "report")
    content: dict[str, Any] = {
        "title": options.title or f"Results: {', '.join(grid.name for grid in grids)}",
        "suite": __version__,
        "commits": commits(workspace.store, records),
        "date": date,
        "grids": [grid.model_dump(mode="json") for grid in grids],
        "models": [model.model_dump(mode="json") for model in models],
    }
    record = Published.model_validate({**anonymous.tree(content), "recipes": recipes})
    _clear(folder, anonymous)
    _write_overview(folder, record)
    record = record.model_copy(update={"files": {name: sha256(folder / name) for name in files_below(folder)}})
    write_text(folder / FILE, json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
    return record


def without_logs(page: Page) -> Page:
    """The page without the logs of jobs, which may quote anything."""
    from dataclasses import replace

    return replace(page, jobs=[replace(job, log="") for job in page.jobs])


def files_below(folder: Path) -> list[str]:
    """All files of a folder by their path in it, with `/`."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _models(workspace: Workspace, options: PublicationOptions, folder: Path) -> list[PublishedModel]:
    """Export the chosen cells. Each is looked for in the grids, in their order."""
    models = []
    for cell in dict.fromkeys(options.cells):
        from analysis.export.export import export_cell  # loads torch, which tables alone do not need

        grid = _grid_with(workspace, options, cell)
        name = "_".join(part for part in (grid, *cell.split("/"), options.stage))
        model_folder = folder / "models" / name
        export_cell(workspace, grid, cell, options.profile, options.stage, model_folder)
        weights = model_folder / "model.safetensors"
        digest = sha256(weights) if options.weights else None
        if not options.weights:
            weights.unlink()
        models.append(PublishedModel(folder=f"models/{name}", grid=grid, cell=cell, stage=options.stage, sha256=digest))
    return models


def _grid_with(workspace: Workspace, options: PublicationOptions, cell: str) -> str:
    """Name of the first grid that has a cell; of the first grid where none has, whose error then names the nearest."""
    names = [grid_of_store(workspace.runs, name).name for name in options.grids]
    for name in names:
        records = read_cells(workspace.runs, name, options.profile)
        if any(cell in {record.id, "/".join(record.row_and_dataset)} for record in records):
            return name
    return names[0]


def _write_overview(folder: Path, record: Published) -> None:
    downloads = [
        name for name in files_below(folder) if name.startswith("report/") and not name.endswith((".json", ".html"))
    ]
    tables = [grid_tables(grid) for grid in record.grids]
    write_text(folder / "index.html", render("index.html.j2", published=record, tables=tables, downloads=downloads))
    front = "\n".join(
        (
            *("license: other", "license_name: terms-of-the-training-data", "tags:", "- self-supervised-learning"),
            *("- fine-grained", "sdk: static"),
        )
    )
    write_text(folder / "README.md", render("README.md.j2", published=record, front=front))


def _clear(folder: Path, anonymous: Anonymiser) -> None:
    """Rewrite the text files that the report and the export have written."""
    for name in files_below(folder):
        path = folder / name
        if path.suffix == ".json":
            text = json.dumps(anonymous.tree(json.loads(path.read_text("utf-8"))), indent=2, ensure_ascii=False) + "\n"
        elif path.suffix in _TEXT:
            text = anonymous.text(path.read_text("utf-8"))
        else:
            continue
        write_text(path, text)


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; expected a folder to write to: --out FOLDER")
    if out.is_dir() and not (out / FILE).is_file() and any(path.name != ".git" for path in out.iterdir()):
        raise UsageError(
            f"{out} holds other files and no {FILE}. Expected a new folder, or one that `suite publish` wrote."
        )


def _replace(staging: Path, out: Path, record: Published) -> None:
    """Move the new files into `out`, after deleting those that an earlier publication listed."""
    for name in _listed(out):
        (out / name).unlink(missing_ok=True)
    for name in (*record.files, FILE):  # the list of files comes last
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(out / name)
    shutil.rmtree(staging)
    for path in sorted((path for path in out.rglob("*") if path.is_dir()), reverse=True):
        if ".git" not in path.parts and not any(path.iterdir()):
            path.rmdir()


def _listed(out: Path) -> list[str]:
    """Files of an earlier publication, relative to `out` and inside it."""
    path = out / FILE
    if not path.is_file():
        return []
    try:
        names = [str(name) for name in json.loads(path.read_text("utf-8"))["files"]]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in names if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts]
