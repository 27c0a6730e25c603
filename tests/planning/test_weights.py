"""The plan names the weights of U^2-Net-p where a run would need them and they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.grid.cells import Selection
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.planning.plan import Plan, make_plan
from suite.planning.weights import missing_weights
from suite.workspace import Workspace


@pytest.fixture
def workspace(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("SUITE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("suite.planning.weights.existing_weights", _only_in(tmp_path / "models"))
    return Workspace(drawn, tmp_path / "runs")


def _only_in(folder: Path) -> object:
    """The weights of the machine that tests run on do not count."""
    return lambda *_: next(folder.glob("u2netp.onnx"), None)


def planned(workspace: Workspace, method: str, **overrides: object) -> Plan:
    selection = Selection(("cub",), (method,), seeds=(0,), overrides=overrides)
    return make_plan(workspace, load_grid("paper_table1"), load_profile("small"), selection)


def test_measurements_can_be_left_out(workspace: Workspace) -> None:
    sentence = missing_weights(planned(workspace, "random"))
    assert sentence is not None
    assert "u2netp.onnx" in sentence
    assert "--set localisation=null --set background=null" in sentence
    assert missing_weights(planned(workspace, "random", localisation=None, background=None)) is None


def test_a_row_that_trains_on_maps_needs_another_detector(workspace: Workspace) -> None:
    sentence = missing_weights(planned(workspace, "byol_cvsa"))
    assert sentence is not None
    assert "--set saliency.detector=spectral" in sentence
    assert missing_weights(planned(workspace, "byol_cvsa", **{"saliency.detector": "spectral"})) is None


def test_weights_on_this_machine_are_enough(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "u2netp.onnx").touch()
    assert missing_weights(planned(workspace, "byol_cvsa")) is None
