"""The plugins of a store's runs are loaded again only if they are the very files that were run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from suite.errors import StoreError
from suite.store.plugins import remember_plugins, remembered_plugins

ROOT = Path(__file__).resolve().parents[2]


def test_an_unchanged_file_is_loaded_again(tmp_path: Path) -> None:
    plugin, store = tmp_path / "mine.py", tmp_path / "runs"
    plugin.write_text("NUMBER = 1\n", "utf-8")
    remember_plugins(store, [plugin])
    remember_plugins(store, [plugin])
    assert remembered_plugins(store) == ([plugin], [])


@pytest.mark.parametrize("change", ["edited", "removed", "inside"])
def test_another_file_is_not(change: str, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    plugin = (store if change == "inside" else tmp_path) / "mine.py"
    plugin.parent.mkdir(exist_ok=True)
    plugin.write_text("NUMBER = 1\n", "utf-8")
    remember_plugins(store, [plugin])
    if change == "edited":
        plugin.write_text("NUMBER = 2\n", "utf-8")
    if change == "removed":
        plugin.unlink()
    usable, remarks = remembered_plugins(store)
    assert usable == []
    assert "--plugin" in remarks[0]


def test_a_store_without_plugins_and_a_damaged_list(tmp_path: Path) -> None:
    remember_plugins(tmp_path, [])
    assert not list(tmp_path.iterdir())
    assert remembered_plugins(tmp_path) == ([], [])
    (tmp_path / "plugins.json").write_text("[", "utf-8")
    with pytest.raises(StoreError, match="damaged"):
        remembered_plugins(tmp_path)


def test_report_needs_no_name(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    """A row that only the plugin knows, run with --plugin and reported without."""
    plugin = tmp_path / "row.py"
    plugin.write_text(
        "from suite.plugin import register_row\n"
        "register_row('narrow', objective='byol', label='Narrow crops', set={'pretrain.epochs': 1})\n",
        "utf-8",
    )
    suite = [sys.executable, "-m", "suite"]
    runs = ["--runs", str(tmp_path / "runs")]
    select = ["--grid", "paper_table1", "--profile", str(tiny_profile), "--data", str(drawn), "--only", "narrow/cub/0"]
    subprocess.run([*suite, "run", *select, *runs, "--plugin", str(plugin)], cwd=ROOT, check=True, capture_output=True)
    done = subprocess.run(
        [*suite, "report", *runs, "--no-figures"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Narrow crops" in done.stdout
