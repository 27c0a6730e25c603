"""Intervals of accuracies, and the colour of differences: only where the data support one."""

import pytest
from rich.console import Console
from scipy.stats import binomtest, ttest_rel

from analysis.page.tables import page_table
from analysis.statistics.intervals import difference_interval, is_supported, wilson_interval
from analysis.tables.accuracy import accuracy_table
from analysis.tables.latex import to_latex
from analysis.tables.text import to_text

from .table_fixtures import GRID, line


@pytest.mark.parametrize(("right", "n"), [(0, 7), (1, 180), (90, 180), (179, 180), (180, 180), (4321, 5794)])
def test_wilson_as_in_scipy(right: int, n: int) -> None:
    low, high = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson_interval(100 * right / n, n) == pytest.approx((100 * low, 100 * high), abs=1e-9)


def test_wilson_refuses_what_is_no_accuracy() -> None:
    for percent, n in ((50.0, 0), (101.0, 10), (-1.0, 10)):
        with pytest.raises(ValueError, match="percentage"):
            wilson_interval(percent, n)


def test_a_difference_has_the_interval_of_newcombes_formula() -> None:
    low, high = difference_interval(80.0, 60.0, 100)
    assert low < 20 < high
    mirrored = difference_interval(60.0, 80.0, 100)
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]))
    equal = difference_interval(50.0, 50.0, 100)
    assert equal[0] == pytest.approx(-equal[1])
    l1, u1 = wilson_interval(80, 100)
    l2, u2 = wilson_interval(60, 100)
    assert low == pytest.approx(20 - ((80 - l1) ** 2 + (u2 - 60) ** 2) ** 0.5)
    assert high == pytest.approx(20 + ((u1 - 80) ** 2 + (60 - l2) ** 2) ** 0.5)


def test_one_seed_counts_its_test_images() -> None:
    """2.78 points on 180 images are five images: no support. On 18,000 images they are."""
    assert not is_supported({0: 63.33}, {0: 66.11}, 180)
    assert is_supported({0: 63.33}, {0: 66.11}, 18_000)
    assert not is_supported({0: 63.33}, {1: 10.0}, 18_000)  # no common seed


def test_several_seeds_are_paired() -> None:
    row, reference = {0: 51.0, 1: 61.1, 2: 71.0}, {0: 50.0, 1: 60.0, 2: 70.1}
    assert is_supported(row, reference, 30)  # seeds differ by 10 points, the differences by a tenth of one
    low, high = ttest_rel([*row.values()], [*reference.values()]).confidence_interval()
    assert 0 < low < high
    assert not is_supported({0: 55.0, 1: 59.0}, {0: 50.0, 1: 60.0}, 1_000_000)
    assert not is_supported({0: 51.0, 1: 52.0}, {0: 50.0, 1: 51.0}, 30)  # equal differences: by the images


def test_only_a_supported_difference_has_a_colour() -> None:
    results = [line("byol", "cub", 0, 50.0), line("random", "cub", 0, 20.0), line("mine", "cub", 0, 52.0)]
    table = accuracy_table(GRID, results)
    latex = to_latex(table)
    assert r"\loss{-30.00}" in latex
    assert r"\undecided{+2.00}" in latex
    assert r"\gain{" not in latex
    (block,) = page_table(table).blocks[:1]
    cells = {row.label: row.cells[0] for row in block.rows}
    assert (cells["BYOL"].delta, cells["BYOL"].change) == ("\N{EN DASH}", "")
    assert (cells["Random init"].change, cells["Random init"].delta) == ("loss", "-30.00")
    assert sorted(cell.change for cell in cells.values()) == ["", "", "loss"]
    assert "500 test images: 95 % Wilson interval 45.6 to 54.4" in cells["BYOL"].hint
    console = Console(record=True, width=200, force_terminal=True, color_system="standard")
    console.print(to_text(table))
    text = console.export_text(styles=True)
    assert "\x1b[31m (-30.00)" in text
    assert "\x1b[32m" not in text
    assert any("One seed" in note and "Wilson" in note for note in table.notes)
