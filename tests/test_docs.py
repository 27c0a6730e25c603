"""README and docs: links lead somewhere, and numbers of the README are those of the study."""

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


def test_numbers_of_the_study_in_the_readme_are_those_of_its_page() -> None:
    study = (ROOT / "docs" / "small_scale_study.md").read_text("utf-8")
    synthetic = next(
        {cells[0]: cells[1:] for row in block.splitlines() if (cells := row.strip(" |").split(" | "))}
        for block in re.findall(r"(?:^\|.*\n)+", study, re.MULTILINE)
        if "MoCo.v2+SS" in block and "±" in block
    )
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert (
        f"BYOL+CVSA reaches {synthetic['BYOL+CVSA'][0]} % on synthetic birds and BYOL {synthetic['BYOL'][0]}" in readme
    )


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
