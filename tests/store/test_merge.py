"""Two stores become one: finished cells with their jobs, conflicts by name, and nothing written where one is found."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suite.cli import app
from suite.errors import StoreError, UsageError
from suite.grid.cells import Cell, Selection
from suite.store.ledger import read_cells
from suite.store.merge import merge
from suite.store.store import Store, sha256

from ..analysis.made_store import fill, made_up


def select(*methods: str, seeds: tuple[int, ...] = (0,), **overrides: object) -> Selection:
    return Selection(("cub",), methods, None, seeds, {name.replace("__", "."): v for name, v in overrides.items()})


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    """Ours: byol, seed 0. Theirs: byol and random, seeds 0 and 1; random's seed 1 failed."""
    fill(tmp_path / "ours", "paper_table1", select("byol"))

    def theirs(cell: Cell) -> float | None:
        return None if cell.id == "random/cub/1" else made_up(cell)

    fill(tmp_path / "theirs", "paper_table1", select("byol", "random", seeds=(0, 1)), value=theirs)
    return Store(tmp_path / "ours"), Store(tmp_path / "theirs")


def ids(store: Store) -> list[str]:
    return sorted(record.id for record in read_cells(store.root))


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_finished_cells_are_added(stores: tuple[Store, Store]) -> None:
    ours, theirs = stores
    before = everything(theirs.root)
    outcome = merge(ours, theirs)
    assert set(outcome.cells) == {"byol/cub/1 (paper_table1, small)", "random/cub/0 (paper_table1, small)"}
    assert (outcome.identical, outcome.unfinished) == (1, ("random/cub/1 (paper_table1, small)",))
    assert ids(ours) == ["byol/cub/0", "byol/cub/1", "random/cub/0"]
    for record in read_cells(ours.root):
        assert all(ours.result(key) == theirs.result(key) for key in record.jobs)
    with (ours.root / "results.csv").open(encoding="utf-8") as file:
        assert {line["row"] for line in csv.DictReader(file)} == {"byol", "random"}
    assert everything(theirs.root) == before
    again = merge(ours, theirs)
    assert (again.cells, again.jobs, again.identical) == ((), (), 3)


def test_a_dry_run_changes_nothing(stores: tuple[Store, Store]) -> None:
    ours, theirs = stores
    before = everything(ours.root)
    assert len(merge(ours, theirs, dry_run=True).cells) == 2
    assert everything(ours.root) == before


def test_other_numbers_of_the_same_job_are_refused_by_name(tmp_path: Path, stores: tuple[Store, Store]) -> None:
    ours, _ = stores
    fill(tmp_path / "lab", "paper_table1", select("byol", "random"), value=lambda cell: made_up(cell) + 0.01)
    lab, before = Store(tmp_path / "lab"), everything(ours.root)
    with pytest.raises(StoreError, match=r"1 of 2 cells(.|\n)*byol/cub/0 \(paper_table1, small\): job .*top1"):
        merge(ours, lab)
    assert everything(ours.root) == before
    outcome = merge(ours, lab, skip_conflicts=True)
    assert outcome.cells == ("random/cub/0 (paper_table1, small)",)
    assert len(outcome.conflicts) == 1
    key = next(record for record in read_cells(ours.root) if record.row == "byol").measured["finetune"]
    assert ours.result(key) != lab.result(key)


def test_other_settings_are_named(tmp_path: Path, stores: tuple[Store, Store]) -> None:
    ours, _ = stores
    fill(tmp_path / "lab", "paper_table1", select("byol", finetune__epochs=3))
    with pytest.raises(StoreError, match=r"other settings: finetune.epochs \d+ here, 3 there"):
        merge(ours, Store(tmp_path / "lab"))


def test_an_attempt_here_is_moved_aside_for_a_result_from_there(stores: tuple[Store, Store]) -> None:
    ours, theirs = stores
    key = next(r for r in read_cells(theirs.root) if r.id == "random/cub/0").measured["finetune"]
    (ours.folder(key) / "checkpoint").mkdir(parents=True)
    (ours.folder(key) / "checkpoint" / "state.pt").write_bytes(b"half")
    merge(ours, theirs)
    assert ours.done(key)
    assert [path.read_bytes() for path in (ours.root / "forgotten").rglob("state.pt")] == [b"half"]


def test_damaged_weights_and_links_are_not_taken(stores: tuple[Store, Store], tmp_path: Path) -> None:
    ours, theirs = stores
    key = next(r for r in read_cells(theirs.root) if r.id == "random/cub/0").measured["finetune"]
    weights = theirs.checkpoint(key) / "model.safetensors"
    weights.parent.mkdir(exist_ok=True)
    weights.write_bytes(b"weights")
    path = theirs.folder(key) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": {weights.name: sha256(weights)}}))
    (tmp_path / "secret").write_text("secret")
    (theirs.folder(key) / "notes.txt").symlink_to(tmp_path / "secret")
    weights.write_bytes(b"changed")
    with pytest.raises(StoreError, match="is not the file that was recorded"):
        merge(ours, theirs)
    assert ids(ours) == ["byol/cub/0"]
    weights.write_bytes(b"weights")
    merge(ours, theirs)
    assert ours.weights(key, weights.name).read_bytes() == b"weights"
    assert not (ours.folder(key) / "notes.txt").exists()


def test_names_from_outside_do_not_become_paths(stores: tuple[Store, Store], tmp_path: Path) -> None:
    ours, theirs = stores
    path = theirs.root / "grids" / "paper_table1--small.json"
    path.write_text(path.read_text().replace('"paper_table1"', '"../../outside"'))
    with pytest.raises(StoreError, match="not a valid file name"):
        merge(ours, theirs)
    assert not list(tmp_path.glob("outside*"))


def test_a_spec_that_does_not_give_the_key_is_refused(stores: tuple[Store, Store]) -> None:
    ours, theirs = stores
    key = next(r for r in read_cells(theirs.root) if r.id == "random/cub/0").measured["finetune"]
    path = theirs.folder(key) / "job.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 7"))
    with pytest.raises(StoreError, match="damaged"):
        merge(ours, theirs)


def test_not_a_store(stores: tuple[Store, Store], tmp_path: Path) -> None:
    ours, _ = stores
    with pytest.raises(UsageError, match="this store itself"):
        merge(ours, Store(ours.root / "."))
    with pytest.raises(UsageError, match="no cell is recorded"):
        merge(ours, Store(tmp_path / "nothing"))


def test_command(stores: tuple[Store, Store]) -> None:
    ours, theirs = stores
    done = CliRunner().invoke(app, ["merge", str(theirs.root), "--runs", str(ours.root)])
    assert done.exit_code == 0, done.output
    assert "2 cells and" in done.output
    assert "left out, not finished: random/cub/1 (paper_table1, small)" in done.output
