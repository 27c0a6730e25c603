"""Formatting, lint and types are part of the tests, so that they hold at every commit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "command",
    [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"]],
    ids=["format", "lint", "types"],
)
def test_style(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rooms_depend_on_each_other_in_one_direction() -> None:
    """The architecture's import rules, checked on the text of every file."""
    forbidden = {
        "methods": ["suite", "analysis"],
        "suite/grid": ["torch", "mlflow", "suite.training", "suite.execute", "analysis"],
        "suite/store": ["torch", "suite.training", "suite.execute", "analysis"],
        "suite/data": ["mlflow", "suite.training", "suite.execute", "analysis"],
        "analysis": ["suite.execute", "suite.training.pretrain", "suite.training.finetune", "suite.cli"],
        "suite": ["suite.cli"],
    }
    wrong = []
    for folder, modules in forbidden.items():
        for path in (ROOT / folder).rglob("*.py"):
            if folder == "suite" and path.is_relative_to(ROOT / "suite" / "cli"):
                continue
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                words = line.split()
                if len(words) > 1 and words[0] in {"import", "from"}:
                    wrong += [
                        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
                        for module in modules
                        if words[1] == module or words[1].startswith(module + ".")
                    ]
    assert not wrong


def test_only_the_adapter_touches_solo_learn() -> None:
    touches = re.compile(r'^\s*(from|import) solo[. ]|import_module\(f?"solo', re.MULTILINE)
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("methods", "suite", "analysis")
        for path in (ROOT / folder).rglob("*.py")
        if touches.search(path.read_text("utf-8"))
    ]
    assert users == ["methods/solo_learn.py"]
