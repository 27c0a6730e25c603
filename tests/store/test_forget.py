"""A cell that is forgotten leaves status and report; shared jobs stay, and nothing is deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suite.cli import app
from suite.errors import UsageError
from suite.store.forget import forget
from suite.store.ledger import read_cells
from suite.store.store import Failure, Store


def cell(row: str, jobs: list[str], grid: str = "table", seed: int = 0) -> dict[str, object]:
    return {
        "grid": grid, "row": row, "method": row, "dataset": "cub", "stage1": "none", "stage2": "yes", "profile": "tiny",
        "seed": seed, "jobs": jobs, "measured": {"finetune": jobs[-1]}, "set": {}, "recipe": {},
    }  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two rows that share their first job, of which one failed; and one row in another grid."""
    grids = tmp_path / "grids"
    grids.mkdir()
    cells = [cell("left", ["shared", "broken"]), cell("right", ["shared", "sound"])]
    (grids / "table--tiny.json").write_text(json.dumps(cells), "utf-8")
    (grids / "other--tiny.json").write_text(json.dumps([cell("right", ["elsewhere"], "other")]), "utf-8")
    for key in ("shared", "broken", "sound", "elsewhere"):
        (tmp_path / key).mkdir()
        (tmp_path / key / "log.txt").write_text(key, "utf-8")
    store = Store(tmp_path)
    store.fail("broken", Failure(error="no space", kind="failed", traceback=""))
    return store


def test_only_what_nobody_else_uses_is_moved(store: Store) -> None:
    outcome = forget(store, "left/cub/0")
    assert outcome.moved == ("broken",)
    assert outcome.still_used == {"shared": ("right/cub/0 (table, tiny)",)}
    assert (outcome.folder / "broken" / "log.txt").read_text() == "broken"
    assert not store.folder("broken").exists()
    assert store.folder("shared").is_dir()
    assert [record.id for record in read_cells(store.root, "table")] == ["right/cub/0"]
    assert json.loads((outcome.folder / "cells.json").read_text())[0]["row"] == "left"


def test_the_command_says_what_it_did(store: Store) -> None:
    done = CliRunner().invoke(app, ["forget", "left/cub", "--runs", str(store.root)])
    assert done.exit_code == 0, done.output
    assert "1 jobs moved to" in done.output
    assert "kept shared: also used by right/cub/0 (table, tiny)" in done.output
    shown = CliRunner().invoke(app, ["status", "--runs", str(store.root)]).output
    assert "failed" not in shown


def test_a_cell_of_two_grids_needs_the_grid(store: Store) -> None:
    with pytest.raises(UsageError, match="--grid other --profile tiny, --grid table --profile tiny"):
        forget(store, "right/cub/0")
    assert forget(store, "right/cub/0", "other").moved == ("elsewhere",)


def test_an_unknown_cell_is_named_with_the_nearest(store: Store) -> None:
    with pytest.raises(UsageError, match="did you mean 'left/cub/0'"):
        forget(store, "lfet/cub/0")


def test_a_cell_of_another_grid_or_profile_says_which(store: Store) -> None:
    for grid, profile in (("other", None), (None, "paper")):
        with pytest.raises(UsageError, match="recorded with: --grid table --profile tiny"):
            forget(store, "left/cub/0", grid, profile)


def test_jobs_of_a_study_stay(store: Store) -> None:
    study = store.root / "tuning" / "search"
    study.mkdir(parents=True)
    (study / "trials.json").write_text(json.dumps([{"jobs": ["broken"]}]), "utf-8")
    outcome = forget(store, "left/cub/0")
    assert outcome.moved == ()
    assert outcome.still_used["broken"] == ("study search",)


def test_a_store_without_runs_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"nothing was run in {tmp_path}"):
        forget(Store(tmp_path), "left/cub/0")
