"""The documentation site: it builds without a warning, its references are complete, its examples are tested files."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

import suite
from methods.registry import OBJECTIVES, VIEWS
from suite.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
GENERATED = {"index.md", "contributing.md", "changes.md"}


def entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for child in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(child)


def test_every_page_has_a_place_in_the_navigation() -> None:
    nav = set(entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    pages = {path.name for path in DOCS.glob("*.md")}
    pages |= {f"notebooks/{path.stem}.md" for path in DOCS.glob("notebooks/*.ipynb")}
    for page in sorted(pages - nav):
        pytest.fail(f"docs/{page} has no place in the site: add a line `- Title: {page}` to `nav` in mkdocs.yml")
    gone = {page for page in nav - pages - GENERATED if not page.startswith("reference/")}
    assert gone == set(), "mkdocs.yml: `nav` names pages that docs/ does not have"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # Not --quiet: mkdocs would not count warnings then.
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_command_line_reference_has_every_option(site: Path) -> None:
    page = (site / "reference" / "cli.html").read_text("utf-8")

    def commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
        yield words, command
        for name, child in getattr(command, "commands", {}).items():
            yield from commands(child, f"{words}-{name}")

    sections = dict(re.findall(r'<h2 id="([\w-]+)">(.*?)(?=<h2|</article>)', page, re.DOTALL))
    for words, command in commands(get_command(app), "suite"):
        for option in {option for parameter in command.params for option in parameter.opts if option.startswith("--")}:
            assert option in sections[words], f"{words} {option}"


def test_the_python_references_are_complete(site: Path) -> None:
    python = (site / "reference" / "python.html").read_text("utf-8")
    for name in suite.__all__:
        assert name.startswith("_") or f'id="suite.api.{name}"' in python, name
    plugins = (site / "reference" / "plugins.html").read_text("utf-8")
    for name in ("register_objective", "register_dataset", "register_protocol"):
        assert f'id="suite.plugin.{name}"' in plugins
    methods = (site / "reference" / "methods.html").read_text("utf-8")
    for entry in [*OBJECTIVES.values(), *VIEWS.values()]:
        assert f'id="{entry.code.replace(":", ".")}"' in methods


def test_every_view_has_a_figure(site: Path) -> None:
    page = (site / "methods.html").read_text("utf-8")
    for view in VIEWS:
        assert f'src="images/views/{view}.png"' in page
        assert (site / "images" / "views" / f"{view}.png").stat().st_size > 5_000


def test_source_files_are_pages_of_the_site(site: Path) -> None:
    assert "examples/csv_dataset.py.html" in (site / "adding.html").read_text("utf-8")
    assert "register_dataset" in (site / "source" / "examples" / "csv_dataset.py.html").read_text("utf-8")
    assert (site / "source" / "experiments" / "profiles" / "index.html").is_file()
    assert "BYOL+CVSA" in (site / "index.html").read_text("utf-8")


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        loads = re.findall(r'<(?:script|img|link)[^>]*?(?:src|href)="(https?:[^"]+)"', page.read_text("utf-8"))
        assert [address for address in loads if "://" in address] == [], page.name


QUOTED = [
    (page.name, *block)
    for page in PAGES
    for block in re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)\n```", page.read_text("utf-8"), re.DOTALL)
]


@pytest.mark.parametrize(("page", "file", "text"), QUOTED, ids=[f"{page} {file}" for page, file, _ in QUOTED])
def test_quoted_files_are_as_they_are(page: str, file: str, text: str) -> None:
    assert text in (ROOT / file).read_text("utf-8"), f"{page} quotes {file}, which has changed: quote it again"


def test_every_example_is_used_by_a_test() -> None:
    tests = "".join(path.read_text("utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    assert [path.name for path in (ROOT / "examples").iterdir() if path.is_file() and path.name not in tests] == []


def typed_commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of `suite` in a code block of a page, with its words."""
    for page in PAGES:
        for block in re.findall(r"^```(?:\w*)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if (command := re.match(r"(?:[A-Z_]+=\S+ )*suite (.*)", line)) and "..." not in line:
                    yield page.name, shlex.split(command[1], comments=True)


COMMANDS = list(typed_commands())


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS])
def test_commands_on_pages_are_accepted(page: str, words: list[str], tmp_path: Path) -> None:
    """Commands, options, their types, and the names of grids, profiles, datasets and views exist."""
    command, path = get_command(app), ["suite"]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{page}: suite has no command {words[0]}"
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    if words and words[0] in {"--install-completion", "--version", "--help"}:
        return
    context = command.make_context(" ".join(path), list(words))
    for name, folder in (("grid", "grids"), ("profile", "profiles")):
        values = context.params.get(name) or []
        for value in [values] if isinstance(values, str) else values:
            shipped = ROOT / "experiments" / folder / f"{value}.yaml"
            assert shipped.is_file() or value == "evaluate" or (value.endswith(".yaml") and (ROOT / value).is_file())
