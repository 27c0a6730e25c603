"""Help and plan must answer at once: they load neither torch nor mlflow nor matplotlib."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "mlflow", "matplotlib", "pandas", "onnxruntime", "lightning_fabric")


def loaded_after(arguments: list[str]) -> set[str]:
    code = (
        "import sys\n"
        "from suite.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].removeprefix("LOADED").split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["report", "--help"], ["export", "--help"], ["data", "--help"]]
)
def test_help_is_light(arguments: list[str]) -> None:
    assert loaded_after(arguments) == set()


def test_plan_is_light(drawn: Path, tiny_profile: Path, tmp_path: Path) -> None:
    plan = ["plan", "--grid", "paper_table1", "--profile", str(tiny_profile), "--data", str(drawn), "--dataset", "cub"]
    assert loaded_after([*plan, "--runs", str(tmp_path), "--method", "byol_cvsa"]) == set()
