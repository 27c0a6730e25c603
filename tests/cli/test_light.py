"""Help and completion load Typer and nothing else; plan loads neither torch nor mlflow nor matplotlib."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

import suite
from suite.cli import app

HEAVY = {"torch", "torchvision", "mlflow", "matplotlib", "pandas", "onnxruntime", "lightning_fabric", "optuna"}

# What help and completion may load beside the standard library: Typer with what it needs, and our own light files.
MAY_BE_LOADED = {"typer", "click", "shellingham", "annotated_doc", "typing_extensions", "colorama"}
OURS = {"suite", "methods", "analysis"}
STARTUP = {"__main__", "_distutils_hack", "sitecustomize", "usercustomize"}  # Python's own, before our first line


def commands(command: object = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of the command line, as words."""
    command = command or get_command(app)
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


def loaded_by(arguments: list[str], **environment: str) -> tuple[set[str], str]:
    """Top-level modules after a command, less those Python starts with; and the command's output."""
    code = (
        "import sys\n"
        "before = {name.partition('.')[0] for name in sys.modules}\n"
        "sys.argv[0] = 'suite'\n"
        "from suite.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "after = {name.partition('.')[0] for name in sys.modules}\n"
        "print('\\nLOADED', *(after - before - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=True, env=os.environ | environment,
    )  # fmt: skip
    output, _, modules = done.stdout.rpartition("LOADED")
    return set(modules.split()), output


def surplus(modules: set[str]) -> set[str]:
    return {name for name in modules - MAY_BE_LOADED - OURS - STARTUP if not name.startswith("_sysconfigdata")}


@pytest.mark.parametrize("command", commands(), ids=lambda words: " ".join(words) or "suite")
def test_help_loads_nothing_but_typer(command: tuple[str, ...]) -> None:
    modules, output = loaded_by([*command, "--help"])
    assert "Usage: suite" in output
    assert surplus(modules) == set()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("suite ca", ["cancel"]),
        ("suite plan --grid ss", ["ss_scale"]),
        ("suite run --dataset na", ["nabirds"]),
        ("suite data ver", ["verify"]),
        ("suite report --no-f", ["--no-figures"]),
    ],
)
def test_completion_offers_names_and_loads_nothing_but_typer(typed: str, offered: list[str]) -> None:
    words = str(len(typed.split()) - 1)
    modules, output = loaded_by([], _SUITE_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=words)
    assert output.split() == offered
    assert surplus(modules) == set()


def test_plan_is_light(drawn: Path, tiny_profile: Path, tmp_path: Path) -> None:
    plan = ["plan", "--grid", "paper_table1", "--profile", str(tiny_profile), "--data", str(drawn), "--dataset", "cub"]
    modules, _ = loaded_by([*plan, "--runs", str(tmp_path), "--method", "byol_cvsa"])
    assert modules & HEAVY == set()


def test_python_dash_m_and_version() -> None:
    done = subprocess.run([sys.executable, "-m", "suite", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"suite {suite.__version__}\n"


def test_every_command_says_what_it_does_in_one_line() -> None:
    """The overview of `suite --help` cuts longer sentences off."""
    context = typer.Context(get_command(app))
    for words in commands():
        command = get_command(app)
        for word in words:
            command = command.get_command(context, word)  # type: ignore[attr-defined]
        short = command.get_short_help_str(65)
        assert short, words
        assert not words or not short.endswith("..."), (words, short)
