"""Files beside the code that must agree with it: lower bounds, the version, the steps of the workflow."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import suite

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def lower_bounds() -> dict[str, tuple[int, ...]]:
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(bound for extra in extras if extra != "dev" for bound in extras[extra])]
    bounds = (re.match(r"([\w.-]+)>=([\d.]+)", requirement) for requirement in wanted)
    return {bound[1]: version(bound[2]) for bound in bounds if bound is not None}


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def pinned() -> dict[str, tuple[int, ...]]:
    lines = (ROOT / "constraints" / "lowest.txt").read_text("utf-8").splitlines()
    pins = (re.match(r"([\w.-]+)==([\d.]+)", line) for line in lines)
    return {pin[1]: version(pin[2]) for pin in pins if pin is not None}


def test_lowest_constraints_are_the_lower_bounds() -> None:
    bounds, pins = lower_bounds(), pinned()
    assert pins.keys() == bounds.keys()
    for name, bound in bounds.items():
        assert pins[name][: len(bound)] == bound, f"constraints/lowest.txt: {name} {pins[name]}, pyproject: {bound}"


def test_versions_agree_and_the_changelog_has_the_release() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert PROJECT["version"] == suite.__version__
    assert headings[0] == "Unreleased"
    assert suite.__version__ in headings


@pytest.mark.parametrize("path", [".github/workflows/check.yml", ".pre-commit-config.yaml"])
def test_yaml_names_commands_that_exist(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert yaml.safe_load(text)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"run: make ([\w-]+)", text)) <= targets
    for script in re.findall(r"(\.ci/\w+|tests/\w+\.py)", text):
        assert (ROOT / script).is_file(), script


def test_a_wheel_says_that_a_checkout_is_meant() -> None:
    """Its packages `methods`, `analysis` and `experiments` have names that other projects use too."""
    pytest.importorskip("hatchling", reason="hatchling is not installed (pip install -e '.[dev]')")
    code = (
        "import sys; from hatch_build import CheckoutNotice\n"
        "class App:\n"
        "    def display_warning(self, text): print(text)\n"
        "hook = CheckoutNotice('.', {}, None, None, '.', 'wheel', App())\n"
        "hook.initialize(sys.argv[1], {})"
    )
    said = {
        version: subprocess.run(
            [sys.executable, "-c", code, version], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for version in ("standard", "editable")
    }
    assert "installed from a checkout" in said["standard"]
    assert said["editable"] == ""
    assert "Private :: Do Not Upload" in PROJECT["classifiers"]
    assert "installed from a checkout" in (ROOT / "docs" / "first_steps.md").read_text("utf-8")


def test_make_without_a_supported_python_says_what_is_missing() -> None:
    command = ["make", ".python-found", "CANDIDATES=python2.7 python3.10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no Python 3.11 to 3.14" in done.stdout
    assert "make PYTHON=" in done.stdout


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"(?:methods|suite|tests|examples|docs|experiments|constraints)/[\w/]+\.\w+", text))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()
