"""Benchmarks write their results with commit and date; the table says which rows are stale."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def record() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record", Path(__file__).parent / "benchmarks" / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path: Path, record: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "ROOT", tmp_path)
    for command in (["init", "-q"], ["config", "user.email", "a@b"], ["config", "user.name", "a"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    commit(tmp_path, "fast.py", "1")
    return tmp_path


def commit(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text, "utf-8")
    subprocess.run(["git", "-C", str(root), "add", name], check=True)
    subprocess.run(["git", "-C", str(root), "commit", "-qm", name], check=True)


def test_a_row_is_stale_once_its_files_change(record: ModuleType, repository: Path) -> None:
    results = repository / "benchmarks.json"
    record.record("help", "`help`", "0.2 s", ("fast.py",), results)
    row = json.loads(results.read_text())["help"]
    assert len(row["commit"]) == 10
    assert record.staleness(row) == "current"
    commit(repository, "other.py", "x")
    assert record.staleness(row) == "current"
    commit(repository, "fast.py", "2")
    assert record.staleness(row) == "**stale**: 1 commit to fast.py since"
    record.record("help", "`help`", "0.1 s", ("fast.py",), results)
    page = (repository / "speed.md").read_text("utf-8")
    assert "| `help` | 0.1 s |" in page
    assert "stale" not in page.partition("|---|")[2]
    assert record.staleness({**row, "commit": None}).startswith("**stale**")
    assert record.staleness({**row, "commit": "0" * 10}).startswith("**stale**")


def test_uncommitted_changes_are_said(record: ModuleType, repository: Path) -> None:
    (repository / "fast.py").write_text("3", "utf-8")
    record.record("help", "`help`", "0.3 s", ("fast.py",), repository / "benchmarks.json")
    assert "with changes" in (repository / "speed.md").read_text("utf-8")


def test_the_page_has_the_figures_of_the_file(record: ModuleType) -> None:
    rows = json.loads((ROOT / "docs" / "benchmarks.json").read_text("utf-8"))
    page = (ROOT / "docs" / "speed.md").read_text("utf-8")
    cut = [line.rpartition(" | ")[0] for line in record.table(rows, lambda _: "").splitlines() if line.startswith("|")]
    have = [line.rpartition(" | ")[0] for line in page.splitlines() if line.startswith("|")]
    assert have == cut
    for row in rows.values():
        assert all((ROOT / path).exists() for path in row["paths"]), row
