"""The Python interface: the same names, plans and numbers as the command line; nothing heavy before it is needed."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import suite
from suite.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def selectors(drawn: Path, tiny_profile: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    runs = tmp_path_factory.mktemp("api") / "runs"
    return {
        "profile": str(tiny_profile), "data": drawn, "runs": runs, "datasets": "cub", "methods": ["random", "BYOL"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def outcome(selectors: dict[str, Any]) -> Any:
    return suite.run("paper_table1", workers=1, **selectors)


def test_plan_has_the_keys_of_the_command_line(selectors: dict[str, Any]) -> None:
    plan = suite.plan("paper_table1", overrides={"pretrain.epochs": 1}, **selectors)
    command = [
        sys.executable, "-m", "suite", "plan", "--grid", "paper_table1", "--profile", selectors["profile"],
        "--data", str(selectors["data"]), "--runs", str(selectors["runs"]), "--dataset", "cub", "--method",
        "random,byol", "--set", "pretrain.epochs=1",
    ]  # fmt: skip
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {job.key for job in plan.jobs} == set(re.findall(r"\b[0-9a-f]{20}\b", shown))
    assert [cell.id for cell in plan.cells] == ["random/cub/0", "byol/cub/0"]


def test_run_trains_and_results_are_those_of_the_file(selectors: dict[str, Any], outcome: Any) -> None:
    assert outcome.exit_code == 0
    assert outcome.missing_cells() == {}
    numbers = suite.results(selectors["runs"])
    with (selectors["runs"] / "results.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(numbers.columns) == list(lines[0])
    assert len(numbers) == len(lines)
    assert numbers["value"].tolist() == [float(line["value"]) for line in lines]
    assert numbers["n"].dtype == "int64"
    again = suite.run("paper_table1", workers=1, **selectors)
    assert (again.trained, again.cached) == (0, outcome.trained)


def test_results_of_an_empty_store(tmp_path: Path) -> None:
    numbers = suite.results(tmp_path)
    assert len(numbers) == 0
    assert "value" in numbers.columns


@pytest.mark.usefixtures("outcome")
def test_load_backbone_has_the_stored_weights(selectors: dict[str, Any]) -> None:
    backbone = suite.load_backbone("byol/cub", runs=selectors["runs"])
    stored = [load_file(path) for path in selectors["runs"].glob("*/checkpoint/backbone.safetensors")]
    assert len(stored) == 1
    state = backbone.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in stored[0].items())
    assert not backbone.training
    assert backbone.pooled(torch.zeros(2, 3, 32, 32)).shape == (2, backbone.dim)
    untrained = suite.load_backbone("random/cub/0", runs=selectors["runs"], grid="paper_table1")
    assert not torch.equal(next(iter(untrained.state_dict().values())), next(iter(state.values())))


@pytest.mark.usefixtures("outcome")
def test_errors_are_those_of_the_command_line(selectors: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="did you mean 'byol/cub/0'"):
        suite.load_backbone("byl/cub/0", runs=selectors["runs"])
    with pytest.raises(UsageError, match="did you mean 'byol'"):
        suite.plan("paper_table1", **{**selectors, "methods": "byoll"})
    with pytest.raises(UsageError, match="did you mean 'paper_table1'"):
        suite.load_grid("paper_tabel1")


def test_the_interface_is_lazy_and_complete() -> None:
    code = (
        "import sys, suite\n"
        "assert 'suite.api' not in sys.modules\n"
        "suite.plan, suite.run, suite.results, suite.load_grid, suite.load_backbone\n"
        "suite.load_grid('paper_table1')\n"
        "print(*({'torch', 'pandas', 'mlflow', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = suite.train  # type: ignore[attr-defined]


def test_the_docs_example_runs_up_to_training(tmp_path: Path) -> None:
    """Training itself is the demo's; the rest of the example is above."""
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "example.py").write_text(code.replace('"__main__"', '"never"'), "utf-8")
    command = [sys.executable, str(tmp_path / "example.py")]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "BYOL+CVSA" in done.stdout
    assert "2 cells" in done.stdout
