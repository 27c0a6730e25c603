"""`suite report --from-mlflow`: the same bytes as from the store, with nothing of the store left."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.report import write_report
from suite.errors import StoreError, UsageError
from suite.grid.cells import Cell, Selection
from suite.store.store import Store
from suite.tracking.mirror import Mirror
from suite.tracking.restore import mirrored
from suite.workspace import Workspace

from .made_store import fill, made_up

GRIDS = ("paper_table1", "ss_scale")


def uri_of(runs: Path) -> str:
    return f"sqlite:///{runs / 'mlflow.db'}"


def reported(workspace: Workspace, out: Path) -> dict[str, bytes]:
    """Every file of the reports of both grids, by name."""
    for grid in GRIDS:
        write_report(workspace, grid, None, out, None)
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two grids that share jobs and names of cells; a failed cell, a suspicious one, one changed and run again."""

    def value(cell: Cell) -> float | None:
        return None if cell.id in {"byol_cvsa/cars/0", "byol_cvsa/cars/1"} else made_up(cell)

    folder = tmp_path_factory.mktemp("mirror") / "runs"
    some = Selection(methods=("random", "byol", "byol_cvsa"), datasets=("cub", "cars"), seeds=(0, 1))
    planned = fill(folder, "paper_table1", some, value=value, suspicious={"byol_cvsa/cub/1": "embedding_std 0.001"})
    fill(folder, "ss_scale", Selection(methods=("byol",), seeds=(0,)))
    fill(folder, "ss_scale", Selection(only="byol_ss_0.4/cub/0"))
    Mirror(Store(folder), uri_of(folder)).sync()
    # For Random this changes no job, only what its cells record.
    again = Selection(("cub",), ("random", "byol"), seeds=(0, 1), overrides={"pretrain.epochs": 3})
    fill(folder, "paper_table1", again, value=lambda cell: 61.25 + cell.seed)
    shutil.rmtree(Store(folder).folder(planned[-1].finetune.key))  # asked for, and never begun
    Mirror(Store(folder), uri_of(folder)).sync()
    return folder


def test_tables_and_figures_are_the_same_bytes_without_the_store(runs: Path, tmp_path: Path) -> None:
    from_store = reported(Workspace(tmp_path, runs), tmp_path / "a")
    assert {
        "paper_table1.tex",
        "paper_table1.csv",
        "paper_table1_tests.csv",
        "ss_scale_figure.pdf",
    } <= from_store.keys()
    text = from_store["paper_table1.tex"].decode()
    for needed in ("Failed: BYOL+CVSA (Cars)", r"$\dagger$: suspicious", "Changed with --set", "CUB subset"):
        assert needed in text.replace("-{}-", "--")
    elsewhere = tmp_path / "runs"
    for name in ("mlflow.db", "mlflow-artifacts"):  # all that another machine would see
        copy = shutil.copytree if (runs / name).is_dir() else shutil.copy
        copy(runs / name, elsewhere.parent / name)
    away = runs.rename(runs.with_name("away"))
    try:
        runs.mkdir()
        (away / "mlflow-artifacts").rename(runs / "mlflow-artifacts")  # MLflow knows this place
        with mirrored(f"sqlite:///{tmp_path / 'mlflow.db'}", GRIDS, None) as workspace:
            assert reported(workspace, tmp_path / "b") == from_store
            assert workspace.store.metrics(next(iter(workspace.runs.glob("*/job.yaml"))).parent.name) == []
        assert not workspace.runs.exists()
    finally:
        (runs / "mlflow-artifacts").rename(away / "mlflow-artifacts")
        runs.rmdir()
        away.rename(runs)


def test_sync_after_the_mirror_is_complete_changes_nothing(runs: Path) -> None:
    assert Mirror(Store(runs), uri_of(runs)).sync() == 0


def read(uri: str, grid: str, profile: str | None = None) -> None:
    with mirrored(uri, [grid], profile):
        pass


def test_what_is_not_there_is_named(runs: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown grid in MLflow at sqlite.*did you mean 'paper_table1'"):
        read(uri_of(runs), "paper_table2")
    with pytest.raises(UsageError, match="not run with profile 'paper' in MLflow"):
        read(uri_of(runs), "paper_table1", "paper")
    with pytest.raises(StoreError, match=r"MLflow at http://\S*127\.0\.0\.1:9 does not answer") as error:
        read("http://me:secret@127.0.0.1:9", "paper_table1")
    assert "secret" not in str(error.value)


def test_a_database_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no database at sqlite:///\S*absent\.db\. A run writes to"):
        read(f"sqlite:///{tmp_path / 'absent.db'}", "paper_table1")
    assert not list(tmp_path.iterdir())


def test_the_path_of_a_database_is_answered_with_its_address(runs: Path) -> None:
    with pytest.raises(UsageError, match=rf"mlflow\.db is a file.*sqlite:///{runs}/mlflow\.db"):
        read(str(runs / "mlflow.db"), "paper_table1")


def test_artifacts_that_are_gone_are_an_error(runs: Path) -> None:
    moved = (runs / "mlflow-artifacts").rename(runs / "moved")
    try:
        with pytest.raises(StoreError, match="Artifacts beside a local database stay on that machine"):
            read(uri_of(runs), "paper_table1")
    finally:
        moved.rename(runs / "mlflow-artifacts")


def test_the_command(runs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from suite.cli import main; main()", "report", "--grid", "paper_table1"]
    done = subprocess.run(
        [*command, "--from-mlflow", uri_of(runs)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "No CAM figures: MLflow holds neither weights nor images." in done.stderr
    assert (tmp_path / "report" / "paper_table1.tex").is_file()
    both = [*command, "--from-mlflow", uri_of(runs), "--runs", str(runs)]
    wrong = subprocess.run(both, capture_output=True, text=True, check=False)
    assert (wrong.returncode, "give one of them" in wrong.stderr) == (2, True)
