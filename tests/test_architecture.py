"""The rooms of the house (docs/design.md): which may import which, with no cycle and no arrow that runs up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up: a room may import its own files and rooms named in earlier lines.
FLOORS = (
    ("methods",),
    ("suite.errors", "suite.text", "suite.cores", "suite.progress", "suite.redact"),
    ("suite.output", "suite.paths", "suite.environment", "suite.filesystem", "suite.locks", "suite.atomic"),
    ("suite.jobs",),
    ("suite.data",),
    ("suite.kinds",),
    ("suite.grid",),
    ("suite.store",),
    ("suite.workspace", "suite.weights", "suite.plugin"),
    ("suite.tracking", "suite.training"),
    ("suite.planning",),
    ("suite.execute",),
    ("suite.doctor", "suite.discovery", "suite.tuning", "suite.bench"),
    ("analysis",),
    ("suite.api",),
    ("suite.cli",),
)

NEVER = {
    "methods": ("suite", "analysis"),
    "suite.jobs": ("torch", "mlflow", "suite.kinds", "suite.training", "suite.execute", "analysis"),
    "suite.grid": ("torch", "mlflow", "suite.training", "suite.execute", "analysis"),
    "suite.kinds": ("torch", "mlflow", "suite.training", "suite.execute", "analysis"),
    "suite.store": ("torch", "suite.training", "suite.execute", "analysis"),
    "suite.data": ("mlflow", "suite.training", "suite.execute", "analysis"),
    "suite.training": ("suite.execute", "analysis"),
    "analysis": ("suite.execute", "suite.training"),
}


@cache
def files() -> dict[str, Path]:
    """Module name -> file, of the three packages."""
    paths = [path for package in ("methods", "suite", "analysis") for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports(tree: ast.AST, typing: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, in functions as well; with `typing`, those for type checking too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not typing:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield node.lineno, name if name in files() else node.module
        yield from imports(node, typing)


@cache
def arrows(typing: bool = False) -> tuple[tuple[str, int, str], ...]:
    """Importing module, line, imported name."""
    return tuple(
        (module, line, name)
        for module, path in files().items()
        for line, name in imports(ast.parse(path.read_text("utf-8")), typing)
    )


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2]) if module.startswith("suite.") else module.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("room", NEVER)
def test_forbidden_imports(room: str) -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module, line, name in arrows()
        if inside(module, room) and any(inside(name, other) for other in NEVER[room])
    ]
    assert not wrong


def test_only_the_command_line_imports_the_command_line() -> None:
    allowed = ("suite.cli", "suite.__main__")
    wrong = [
        f"{module}:{line}"
        for module, line, name in arrows()
        if inside(name, "suite.cli") and not any(inside(module, place) for place in allowed)
    ]
    assert not wrong


def test_no_arrow_runs_up() -> None:
    floor = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
    unplaced = {room_of(module) for module in files()} - floor.keys() - {"suite", "suite.__main__"}
    assert not unplaced, f"add to FLOORS: {unplaced}"
    wrong = [
        f"{module}:{line} imports {name}"
        for module, line, name in arrows()
        if name in files() and floor.get(room_of(name), -1) > floor.get(room_of(module), len(FLOORS))
    ]
    assert not wrong


def test_no_file_imports_itself_in_a_circle() -> None:
    """Not even for types."""
    graph: dict[str, set[str]] = {}
    for module, _, name in arrows(typing=True):
        if name in files() and name != module:
            graph.setdefault(module, set()).add(name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")
