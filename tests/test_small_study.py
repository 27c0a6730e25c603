"""The tables of docs/small_scale_study.md are those of the results beside it.

python tests/test_small_study.py   prints them
"""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from analysis.cells.results import read_results
from analysis.statistics.tests import t_interval
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.store.cells import ResultLine

DOCS = Path(__file__).parents[1] / "docs"
PROFILES = ("study_drawn", "study_photos")
COLUMNS = (
    ("finetune", "top1"), ("knn", "top1"), ("linear", "top1"), ("localisation", "act_pointing"),
    ("localisation", "act_energy"), ("localisation", "cam_pointing"), ("background", "mixed_rand"),
    ("background", "bg_gap"),
)  # fmt: skip
DIFFERENCES = {
    "study_drawn": (
        ("byol", "random"), ("byol_cvsa", "random"), ("byol_cvsa", "byol"), ("byol_ss", "byol"),
        ("byol_cvsa", "byol_ss"), ("moco_v2_ss", "moco_v2"),
    ),
    "study_photos": (
        ("byol", "random"), ("moco_v2", "random"), ("byol_cvsa", "random"), ("byol_cvsa", "byol"), ("byol_ss", "byol"),
        ("byol_cvsa", "byol_ss"), ("moco_v2_ss", "moco_v2"),
    ),
}  # fmt: skip
GRID = load_grid("small_study")
MINUS = "\N{MINUS SIGN}"


def results(profile: str) -> list[ResultLine]:
    return read_results(DOCS / "small_study" / f"{profile}.csv")


def table(profile: str) -> list[str]:
    """Rows of Markdown: mean and sample standard deviation over seeds."""
    lines = results(profile)
    return [
        f"| {row.label} | " + " | ".join(_number(lines, row.name, *column) for column in COLUMNS) + " |"
        for row in GRID.rows
    ]


def differences(profile: str) -> list[str]:
    """Rows of Markdown: mean difference over seeds, with its 95 % t interval; bold where that is above 0."""
    lines, labels = results(profile), {row.name: row.label.removesuffix(" init") for row in GRID.rows}
    return [
        f"| {labels[first]} {MINUS} {labels[second]} | "
        + " | ".join(_difference(_values(lines, first, *c), _values(lines, second, *c)) for c in COLUMNS[:4])
        + " |"
        for first, second in DIFFERENCES[profile]
    ]


def _values(lines: list[ResultLine], row: str, protocol: str, metric: str) -> list[float]:
    found = {
        line.seed: line.value for line in lines if (line.row, line.protocol, line.metric) == (row, protocol, metric)
    }
    return [found[seed] for seed in sorted(found)]


def _number(lines: list[ResultLine], row: str, protocol: str, metric: str) -> str:
    values = _values(lines, row, protocol, metric)
    return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}".replace("-", MINUS)


def _difference(first: list[float], second: list[float]) -> str:
    paired = [a - b for a, b in zip(first, second, strict=True)]
    interval = t_interval(paired)
    assert interval is not None
    low, high = interval
    text = f"{statistics.fmean(paired):.1f} [{low:.1f}, {high:.1f}]".replace("-", MINUS)
    return f"**{text}**" if low > 0 else text


@pytest.mark.parametrize("profile", PROFILES)
def test_the_page_has_the_tables_of_these_results(profile: str) -> None:
    page = (DOCS / "small_scale_study.md").read_text("utf-8").splitlines()
    assert [line for line in [*table(profile), *differences(profile)] if line not in page] == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_row_was_trained_with_every_seed_of_the_profile(profile: str) -> None:
    lines = results(profile)
    assert {line.profile for line in lines} == {profile}
    seeds = load_profile(profile).seeds
    assert len(seeds) >= 5
    for protocol, metric in COLUMNS:
        found = sorted((line.row, line.seed) for line in lines if (line.protocol, line.metric) == (protocol, metric))
        assert found == sorted((row.name, seed) for row in GRID.rows for seed in seeds)


def test_the_page_has_what_cvsa_reaches_without_exact_masks() -> None:
    page = " ".join((DOCS / "small_scale_study.md").read_text("utf-8").split())
    detected, drawn = results("study_drawn_u2netp"), results("study_drawn")
    for protocol in ("finetune", "knn", "linear"):
        assert _number(detected, "byol_cvsa", protocol, "top1") in page
        difference = _difference(
            _values(detected, "byol_cvsa", protocol, "top1"), _values(drawn, "byol", protocol, "top1")
        )
        assert difference.strip("*") in page


if __name__ == "__main__":
    for each in PROFILES:
        print(each, *table(each), *differences(each), sep="\n")
