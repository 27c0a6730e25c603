"""The notebooks of docs/notebooks run from the first cell to the last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import suite

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"


def run(name: str, **parameters: str) -> dict[str, Any]:
    """Execute the code cells in order, with other values of their parameters; returns the variables."""
    cells = json.loads((FOLDER / name).read_text("utf-8"))["cells"]
    variables: dict[str, Any] = {"__name__": "notebook"}
    for place, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []  # results of somebody's machine are not part of the project
        source = "".join(cell["source"])
        exec(compile(source, f"{name}, cell {place}", "exec"), variables)
        variables |= {parameter: value for parameter, value in parameters.items() if parameter in variables}
    return variables


@pytest.fixture
def _headless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_headless")
def test_judging_a_backbone(
    drawn: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUITE_DATA", str(drawn))
    variables = run("judging_a_backbone.ipynb", PROFILE=str(tiny_profile))
    assert variables["outcome"].exit_code == 0
    assert set(variables["numbers"]["row"]) == {"random", "mine"}
    assert variables["features"].shape == (2, 512)
    assert "12 test images alone" in capsys.readouterr().out


@pytest.mark.usefixtures("_headless")
def test_reading_results(drawn: Path, tiny_profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = suite.run(
        "paper_table1", profile=str(tiny_profile), data=drawn, runs=tmp_path / "runs" / "demo", datasets="cub",
        methods=["random", "byol", "byol_cvsa"], seeds=[0], workers=1,
    )  # fmt: skip
    assert outcome.exit_code == 0
    variables = run("reading_results.ipynb")
    assert set(variables["by_protocol"].columns) == {"finetune", "linear", "knn"}
    assert len(variables["table"]) == 3
    assert "byol_cvsa" in capsys.readouterr().out
