"""README and docs: links lead somewhere, and the numbers of the README are those of the study."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from suite.grid.spec import load_grid

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_readme_fits_one_screen() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 75


def test_results_in_the_readme_are_those_of_the_study() -> None:
    def tables(path: Path) -> list[dict[str, list[str]]]:
        blocks = re.findall(r"(?:^\|.*\n)+", path.read_text("utf-8"), re.MULTILINE)
        return [
            {(cells := row.strip(" |").split(" | "))[0].strip(): cells[1:] for row in block.splitlines()}
            for block in blocks
        ]

    readme = next(table for table in tables(ROOT / "README.md") if "BYOL+CVSA" in table)
    synthetic, photographs = [
        t for t in tables(ROOT / "docs/small_scale_study.md") if "MoCo.v2+SS" in t and "±" in str(t)
    ]
    for row in ("Random init", "BYOL", "BYOL+SS", "BYOL+CVSA", "MoCo.v2", "MoCo.v2+SS"):
        expected = [synthetic[row][0], synthetic[row][3], photographs[row][0], photographs[row][3]]
        assert readme[row] == expected, row


def test_design_names_every_room() -> None:
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    rooms = [path.name for path in (ROOT / "suite").iterdir() if (path / "__init__.py").is_file()]
    assert rooms
    assert [room for room in rooms if f"{room}/" not in text] == []


def test_first_steps_list_every_grid() -> None:
    text = (ROOT / "docs" / "first_steps.md").read_text("utf-8")
    listed = {
        name: (int(rows), int(sets)) for name, rows, sets in re.findall(r"^\| `(\w+)` \| (\d+) x (\d+) ", text, re.M)
    }
    grids = {path.stem: load_grid(path.stem) for path in (ROOT / "experiments" / "grids").glob("*.yaml")}
    sizes = {name: (len(grid.rows), len(grid.datasets)) for name, grid in grids.items()}
    assert listed == sizes, "the table of grids in docs/first_steps.md"
