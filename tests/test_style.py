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


def test_only_the_adapter_touches_solo_learn() -> None:
    touches = re.compile(r'^\s*(from|import) solo[. ]|import_module\(f?"solo', re.MULTILINE)
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("methods", "suite", "analysis")
        for path in (ROOT / folder).rglob("*.py")
        if touches.search(path.read_text("utf-8"))
    ]
    assert users == ["methods/solo_learn.py"]
