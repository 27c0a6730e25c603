"""A store that version 0.1 wrote with `make demo` is read as it is: same keys, nothing trained again, same tables."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path

import pytest
import yaml

from analysis.report import write_report
from suite.data.saliency.detectors import DETECTOR_IDENTITIES
from suite.grid.cell_jobs import jobs_of
from suite.grid.cells import Selection, cells
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.jobs.identity import content_key
from suite.kinds.base import DataJobSpec
from suite.store.ledger import read_cells, write_results
from suite.store.store import Store
from suite.workspace import Workspace

ARCHIVE = Path(__file__).parent / "fixtures" / "demo_store.tar.xz"
GRID, PROFILE, METHODS = "paper_table1", "demo", ("random", "byol", "byol_cvsa")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked store; `expected/` holds the tables that version 0.1 made from it."""
    folder = tmp_path_factory.mktemp("runs")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder)  # our own file; Python 3.11.2, which Debian 12 has, knows no `filter`
    return folder


def keys(runs: Path) -> set[str]:
    return {path.parent.name for path in runs.glob("*/job.yaml")}


def test_every_spec_keeps_its_key(runs: Path) -> None:
    store = Store(runs)
    assert len(keys(runs)) == 56
    for key in keys(runs):
        assert content_key(store.spec(key)) == key
        assert store.status(key) == "done"


def test_the_grid_plans_the_same_jobs(runs: Path) -> None:
    """From the shipped grid and profile, with the fingerprints that the store recorded."""
    specs = [Store(runs).spec(key) for key in keys(runs)]
    prints = {spec.data.name: spec.data.fingerprint for spec in specs if isinstance(spec, DataJobSpec)}
    selected = cells(load_grid(GRID), load_profile(PROFILE), Selection(methods=METHODS))
    planned = [jobs_of(cell, prints, DETECTOR_IDENTITIES, masked=set(prints)) for cell in selected]
    assert {job.key for item in planned for job in item.jobs} == keys(runs)
    recorded = {entry.row_and_dataset: entry.roles for entry in read_cells(runs)}
    for item in planned:
        roles = {role: job.key for role, job in item.roles.items()}
        assert roles == recorded[item.cell.row.name, item.cell.dataset]


def test_job_yaml_holds_the_spec_unchanged(runs: Path) -> None:
    store = Store(runs)
    for key in keys(runs):
        written = yaml.safe_load((runs / key / "job.yaml").read_text("utf-8"))["spec"]
        assert store.spec(key).model_dump(mode="json") == written


def test_results_are_rewritten_to_the_same_bytes(runs: Path) -> None:
    before = (runs / "results.csv").read_bytes()
    write_results(Store(runs))
    assert (runs / "results.csv").read_bytes() == before


def test_the_report_has_the_same_numbers(runs: Path, tmp_path: Path) -> None:
    """Every CSV byte for byte; LaTeX captions may be reworded, so there only the numbers of the table are compared."""
    written = write_report(Workspace(runs / "data", runs), GRID, PROFILE, tmp_path, None)
    expected = sorted((runs / "expected").glob("*.csv"))
    assert len(expected) == 4
    for path in expected:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name
    assert {path.name for path in written.files} >= {path.name for path in (runs / "expected").iterdir()}
    with (runs / "expected" / f"{GRID}.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) > 0
