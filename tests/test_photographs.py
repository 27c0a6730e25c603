"""The numbers of docs/photographs.md are those of the results beside it.

python tests/test_photographs.py   prints its tables
"""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.cells.results import read_results
from analysis.statistics.intervals import difference_interval
from suite.grid.profile import load_profile
from suite.grid.spec import load_grid
from suite.store.cells import ResultLine

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "photographs.md").read_text("utf-8")
GRID = load_grid("paper_table1")
# In the order of the page. Intervals are those of shares of images, which mAP is not.
COLUMNS = (("knn", "top1"), ("linear", "top1"), ("retrieval", "rank1"), ("retrieval", "map"), ("finetune", "top1"))
LOOK = (
    ("localisation", "act_pointing"), ("localisation", "act_energy"), ("localisation", "cam_pointing"),
    ("background", "mixed_rand"), ("background", "bg_gap"),
)  # fmt: skip
SHARES = tuple(column for column in COLUMNS if column != ("retrieval", "map"))
PAIRS = (
    *((row.name, "random") for row in GRID.rows if row.name != "random"),
    ("byol_cvsa", "byol"),
    ("byol_dilo", "byol"),
)
SMALL = ("aircraft", "cars")
MINUS = "\N{MINUS SIGN}"


def results(dataset: str = "cub") -> list[ResultLine]:
    file = "cub.csv" if dataset == "cub" else "aircraft_cars.csv"
    return [line for line in read_results(DOCS / "photographs" / file) if line.dataset == dataset]


def table(columns: tuple[tuple[str, str], ...] = COLUMNS, dataset: str = "cub") -> list[str]:
    """Rows of Markdown: percent of the test images, mAP, or points."""
    lines = results(dataset)
    return [
        f"| {row.label} | " + " | ".join(f"{_line(lines, row.name, column).value:.1f}" for column in columns) + " |"
        for row in GRID.rows
    ]


def centre() -> str:
    """A row of Markdown: the middle of the image, in place of a network."""
    lines = results()
    values = [_line(lines, "random", ("localisation", metric)).value for metric in ("centre_pointing", "centre_energy")]
    return "| the image's middle | " + " | ".join(f"{value:.1f}" for value in values) + " | | | |"


def attention() -> str:
    """A row of Markdown: BYOL+CVSA against BYOL."""
    lines = results()
    columns = [column for column in LOOK if column[1] in {"act_pointing", "cam_pointing", "mixed_rand"}]
    return (
        f"| BYOL+CVSA {MINUS} BYOL | "
        + " | ".join(_difference(lines, "byol_cvsa", "byol", column) for column in columns)
        + " |"
    )


def small_differences(dataset: str) -> list[str]:
    """Rows of Markdown for a small set: linear classifier and fine-tuning against no pretraining."""
    lines = results(dataset)
    return [
        f"| {row.label} | "
        + " | ".join(_difference(lines, row.name, "random", column) for column in (COLUMNS[1], COLUMNS[4]))
        + " |"
        for row in GRID.rows
        if row.name != "random"
    ]


def differences() -> list[str]:
    """Rows of Markdown: difference in points with its 95 % interval (Newcombe's); bold where that excludes 0."""
    lines, labels = results(), {row.name: row.label.removesuffix(" init") for row in GRID.rows}
    return [
        f"| {labels[first]} {MINUS} {labels[second]} | "
        + " | ".join(_difference(lines, first, second, column) for column in SHARES)
        + " |"
        for first, second in PAIRS
    ]


def _line(lines: list[ResultLine], row: str, column: tuple[str, str]) -> ResultLine:
    (line,) = [line for line in lines if (line.row, line.protocol, line.metric) == (row, *column)]
    return line


def _difference(lines: list[ResultLine], first: str, second: str, column: tuple[str, str]) -> str:
    one, other = _line(lines, first, column), _line(lines, second, column)
    assert one.n == other.n
    low, high = difference_interval(one.value, other.value, one.n)
    text = f"{one.value - other.value:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", MINUS)
    return f"**{text}**" if low > 0 or high < 0 else text


ALL = [
    *table(), *differences(), *table(LOOK), centre(), attention(),
    *(line for dataset in SMALL for line in (*table(dataset=dataset), *small_differences(dataset))),
]  # fmt: skip


@pytest.mark.parametrize("line", ALL)
def test_the_page_has_the_numbers_of_the_results(line: str) -> None:
    assert line in PAGE.splitlines()


@pytest.mark.parametrize("dataset", ["cub", *SMALL])
def test_the_results_are_those_of_the_profile_and_of_every_row(dataset: str) -> None:
    lines = results(dataset)
    assert {line.profile for line in lines} == {"photos"}
    assert {line.seed for line in lines} == set(load_profile("photos").seeds)
    for protocol, metric in (*COLUMNS, *LOOK) if dataset == "cub" else COLUMNS:
        found = sorted(line.row for line in lines if (line.protocol, line.metric) == (protocol, metric))
        assert found == sorted(row.name for row in GRID.rows)


def test_the_readme_has_its_share_of_them() -> None:
    readme = " ".join((DOCS.parent / "README.md").read_text("utf-8").split())
    values = [f"{_line(results(), row, COLUMNS[1]).value:.1f}" for row in ("random", "byol", "byol_cvsa", "rot_pred")]
    none, byol, cvsa, rotations = values
    assert (
        f"{none} % without pretraining, {byol} with BYOL, {cvsa} with BYOL+CVSA and {rotations} with Rot-Pred" in readme
    )


if __name__ == "__main__":
    print(*ALL, sep="\n")
