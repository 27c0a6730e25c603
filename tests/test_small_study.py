"""The tables of docs/small_scale_study.md are those of the results beside it.

python tests/test_small_study.py   prints them
"""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from analysis.results import ResultLine, read_results
from suite.grid.recipe import load_profile
from suite.grid.spec import load_grid

DOCS = Path(__file__).parents[1] / "docs"
PROFILES = ("study_drawn", "study_photos")
COLUMNS = (
    ("finetune", "top1"), ("knn", "top1"), ("linear", "top1"), ("localisation", "act_pointing"),
    ("localisation", "act_energy"), ("localisation", "cam_pointing"), ("background", "mixed_rand"),
    ("background", "bg_gap"),
)  # fmt: skip
GRID = load_grid("small_study")


def results(profile: str) -> list[ResultLine]:
    return read_results(DOCS / "small_study" / f"{profile}.csv")


def table(profile: str) -> list[str]:
    """Rows of Markdown: mean and sample standard deviation over seeds."""
    lines = results(profile)
    return [
        f"| {row.label} | " + " | ".join(_number(lines, row.name, *column) for column in COLUMNS) + " |"
        for row in GRID.rows
    ]


def _number(lines: list[ResultLine], row: str, protocol: str, metric: str) -> str:
    values = [line.value for line in lines if (line.row, line.protocol, line.metric) == (row, protocol, metric)]
    sign = "\N{MINUS SIGN}"
    return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}".replace("-", sign)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_page_has_the_tables_of_these_results(profile: str) -> None:
    page = (DOCS / "small_scale_study.md").read_text("utf-8").splitlines()
    assert [line for line in table(profile) if line not in page] == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_row_was_trained_with_every_seed_of_the_profile(profile: str) -> None:
    lines = results(profile)
    assert {line.profile for line in lines} == {profile}
    seeds = load_profile(profile).seeds
    assert len(seeds) >= 5
    for protocol, metric in COLUMNS:
        found = sorted((line.row, line.seed) for line in lines if (line.protocol, line.metric) == (protocol, metric))
        assert found == sorted((row.name, seed) for row in GRID.rows for seed in seeds)


if __name__ == "__main__":
    for each in PROFILES:
        print(each, *table(each), sep="\n")
