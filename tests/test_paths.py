"""A path means the same wherever it is written: in an option, in a variable, with ~ or $NAME in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.errors import UsageError
from suite.paths import absolute_environment, path_from_environment, user_path
from suite.workspace import Workspace


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_home_and_variables_are_expanded_and_the_result_is_absolute(home: Path) -> None:
    assert user_path("~/owls") == home / "home" / "owls"
    assert user_path("${SCRATCH}/owls") == user_path("$SCRATCH/owls") == home / "scratch" / "owls"
    assert user_path("owls/../crows") == home / "here" / "crows"
    assert user_path("50% #1?ä") == home / "here" / "50% #1?ä"


def test_a_folder_that_exists_under_exactly_that_name_is_meant(home: Path) -> None:
    (home / "here" / "$SCRATCH").mkdir()
    assert user_path("$SCRATCH") == home / "here" / "$SCRATCH"


def test_errors_name_the_option_and_what_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"--runs is '\$NO_SUCH/x'.*variable NO_SUCH is not set"):
        user_path("$NO_SUCH/x", "--runs")
    with pytest.raises(UsageError, match="no such home folder"):
        user_path("~nobody-by-this-name/x")
    with pytest.raises(UsageError, match="expects a path"):
        user_path("")


@pytest.mark.parametrize(("variable", "attribute"), [("DATA", "data"), ("RUNS", "runs"), ("CACHE", "cache")])
def test_variables_of_the_workspace(variable: str, attribute: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SUITE_{variable}", "~/below")
    assert getattr(Workspace.of(None, None), attribute) == home / "home" / "below"


def test_the_runs_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(UsageError, match="runs is a file; expected the runs folder"):
        Workspace.of(None, tmp_path / "runs")


def test_a_relative_variable_survives_a_change_of_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUITE_CACHE", "cache")
    absolute_environment()
    monkeypatch.chdir(home)
    assert path_from_environment("SUITE_CACHE") == home / "here" / "cache"
