"""`suite list` and `suite show`: every name with a line and a source; what they say is true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from methods.registry import VIEWS
from suite.cli import app
from suite.cli.discover import KINDS as OFFERED
from suite.data.catalogue import DATASETS
from suite.discovery import KINDS, entries_named, entries_of_kind
from suite.errors import UsageError
from suite.grid.spec import EXPERIMENTS, load_grid
from suite.kinds.registry import protocols

ROOT = Path(__file__).resolve().parents[2]


def names(kind: str) -> set[str]:
    return {thing.name for thing in entries_of_kind(kind)}


def test_every_registered_name_is_listed() -> None:
    assert tuple(KINDS) == OFFERED
    assert names("grids") == {path.stem for path in (EXPERIMENTS / "grids").glob("*.yaml")}
    assert names("profiles") == {path.stem for path in (EXPERIMENTS / "profiles").glob("*.yaml")}
    assert names("methods") >= {row.method for row in load_grid("paper_table1").rows}
    assert names("views") >= VIEWS.keys()
    assert names("datasets") >= set(DATASETS)
    assert names("protocols") == {"finetune", *protocols()}
    assert {"resnet18", "resnet50"} <= names("backbones")


@pytest.mark.parametrize("kind", OFFERED)
def test_every_name_has_a_line_and_a_source(kind: str) -> None:
    for thing in entries_of_kind(kind):
        assert len(thing.line) > 10, thing
        assert "\n" not in thing.line
        assert thing.source, thing
        if thing.source.endswith((".py", ".yaml")):
            assert (ROOT / thing.source).is_file(), thing


def test_sources_of_methods_are_their_papers() -> None:
    sources = {thing.name: thing.source for thing in entries_of_kind("methods")}
    assert sources["byol"] == "arXiv:2006.07733"
    assert sources["byol_cvsa"] == "arXiv:2106.15788"
    assert sources["byol_dilo"] == "arXiv:2004.06638"


def test_show_a_dataset_a_view_and_a_grid() -> None:
    shown = CliRunner().invoke(app, ["show", "CUB"]).output
    assert "5,994 training images, 5,794 test images, 200 classes" in shown
    assert "suite data fetch cub" in shown
    assert "photometry" in CliRunner().invoke(app, ["show", "saliency_swap"]).output
    table = CliRunner().invoke(app, ["show", "paper_table2"]).output
    assert all(row.name in table for row in load_grid("paper_table2").rows)


def test_plugins_are_listed_with_the_rest() -> None:
    """In a process of its own, since plugins stay loaded."""
    plugin = str(ROOT / "examples" / "align_uniform.py")
    command = [sys.executable, "-m", "suite", "list", "methods", "--json", "--plugin", plugin]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    sources = {thing["name"]: thing["source"] for thing in json.loads(done.stdout)["methods"]}
    assert sources["align_uniform"] == "arXiv:2005.10242"
    assert sources["byol"] == "arXiv:2006.07733"


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'byol_cvsa'"):
        entries_named("byol_cvs")
    with pytest.raises(UsageError, match="did you mean 'backbones'"):
        entries_of_kind("backbone")
