import csv
import dataclasses
import io
import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.cells.results import read_results
from analysis.tables.accuracy import AccuracyCell, Table, accuracy_table
from analysis.tables.text import setup_text, to_csv, to_text
from suite.errors import UsageError
from suite.store.cells import ResultLine

from .table_fixtures import GRID, PUBLISHED, RESULTS, line


def cell(table: Table, row: str, dataset: str) -> AccuracyCell:
    found = table.cells[row, dataset]
    assert found is not None
    return found


def test_mean_spread_and_delta_are_those_worked_out_by_hand() -> None:
    table = accuracy_table(GRID, RESULTS)
    random = cell(table, "random", "cub")
    assert (random.mean, random.seeds, random.n) == (40.5, 2, 500)
    assert random.std == pytest.approx(math.sqrt(0.5))  # ddof = 1; ddof = 0 would give 0.5
    assert random.delta == -11.0
    assert cell(table, "byol", "cub").delta == 0.0
    assert cell(table, "random", "cars").std is None  # one seed has no spread


def test_delta_and_best_come_from_unrounded_means() -> None:
    table = accuracy_table(GRID, RESULTS)  # 51.5 against 51.496: both print as 51.50
    assert cell(table, "mine", "cub").delta == pytest.approx(-0.004)
    assert cell(table, "byol", "cub").is_best
    assert not cell(table, "mine", "cub").is_best


def test_a_hole_is_none_and_named_and_has_no_effect_on_the_rest() -> None:
    table = accuracy_table(GRID, RESULTS)
    assert table.cells["byol", "cars"] is None
    assert cell(table, "mine", "cars").delta is None  # no reference, no difference
    assert "No result yet: BYOL (Cars)." in table.notes
    assert set(table.cells) == set(itertools.product(("random", "byol", "mine"), ("cub", "cars")))


def test_delta_refers_to_the_reference_even_where_that_row_is_not_shown() -> None:
    table = accuracy_table(GRID, RESULTS, rows=["mine", "random"], datasets=["cub"])
    assert [row.name for row in table.rows] == ["random", "mine"]  # the grid's order
    assert cell(table, "mine", "cub").delta == pytest.approx(-0.004)
    assert cell(table, "mine", "cub").is_best  # of the rows shown
    assert table.datasets == ("cub",)


def test_one_number_alone_is_not_the_best() -> None:
    assert not cell(accuracy_table(GRID, RESULTS[:2]), "random", "cub").is_best


def test_other_grids_protocols_and_metrics_stay_out() -> None:
    strangers = [
        line("byol", "cub", 2, 99.0, grid="other"),
        line("byol", "cub", 2, 99.0, protocol="linear"),
        line("byol", "cub", 2, 99.0, metric="top5"),
    ]
    assert accuracy_table(GRID, RESULTS + strangers) == accuracy_table(GRID, RESULTS)
    assert cell(accuracy_table(GRID, RESULTS + strangers, protocol="linear"), "byol", "cub").mean == 99.0


def test_order_of_results_does_not_matter_and_a_repeated_line_counts_once() -> None:
    expected = accuracy_table(GRID, RESULTS)
    assert accuracy_table(GRID, RESULTS[::-1]) == expected
    assert accuracy_table(GRID, RESULTS + RESULTS[:4]) == expected


def test_a_data_frame_gives_the_same_table() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([dataclasses.asdict(result) for result in RESULTS])
    assert accuracy_table(GRID, frame) == accuracy_table(GRID, RESULTS)


def test_notes_say_profile_data_seeds_and_spread() -> None:
    table = accuracy_table(GRID, RESULTS, caption_notes=["CUB subset: 600/5994 train", "synthetic images"])
    assert table.notes[:3] == (
        "Profile small: not the paper's protocol.",
        "CUB subset: 600/5994 train.",
        "Synthetic images.",
    )
    assert "Test images: CUB 500, Cars 400." in table.notes
    assert (
        "Mean over 2 seeds (n = 2 trainings through every stage); ± is the sample standard deviation over seeds."
        in table.notes
    )
    assert "Fewer seeds: Random init on Cars (1)." in table.notes


def test_the_paper_profile_is_not_remarked_upon() -> None:
    paper = [dataclasses.replace(result, profile="paper") for result in RESULTS]
    table = accuracy_table(GRID, paper, published=PUBLISHED)
    assert not any("protocol" in note for note in table.notes)
    assert table.profile == "paper"


def test_published_numbers_have_their_own_deltas_and_best_and_only_known_rows() -> None:
    table = accuracy_table(GRID, RESULTS, published=PUBLISHED)
    assert set(table.published) == {("random", "cub"), ("byol", "cub")}
    assert table.published["random", "cub"].delta == pytest.approx(-6.34)
    assert table.published["byol", "cub"].is_best
    assert (table.published["byol", "cub"].seeds, table.published["byol", "cub"].std) == (None, None)
    assert cell(table, "byol", "cub").mean == 51.5  # untouched by what is published
    assert [row.name for row in table.published_rows] == ["random", "byol"]


def test_without_results_the_table_is_all_holes() -> None:
    table = accuracy_table(GRID, [])
    assert set(table.cells.values()) == {None}
    assert table.profile is None
    assert table.notes == ("No results yet.",)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (line("byol", "cars", 0, 60.0, profile="demo"), ["demo, small", "--profile"]),
        (line("byol", "cub", 2, 60.0, n=5794), ["500", "5794", "cub"]),
        (line("byol", "cub", 0, 60.0, key="other"), ["byol/cub seed 0", "other", "byol-cub-0"]),
        (line("byol", "cub", 2, math.nan), ["percentage", "nan"]),
        (line("byol", "cub", 2, 100.5), ["percentage", "100.5"]),
    ],
)
def test_results_that_do_not_compare_are_refused(extra: ResultLine, words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        accuracy_table(GRID, [*RESULTS, extra])
    assert all(word in str(error.value) for word in words)


def test_naming_a_profile_picks_it_out_of_a_mixture() -> None:
    demo = line("byol", "cub", 0, 10.0, profile="demo", n=20, key="demo")
    assert accuracy_table(GRID, [*RESULTS, demo], profile="small") == accuracy_table(GRID, RESULTS)
    assert cell(accuracy_table(GRID, [*RESULTS, demo], profile="demo"), "byol", "cub").mean == 10.0


def test_an_unknown_row_or_dataset_is_an_error_with_the_nearest_match() -> None:
    with pytest.raises(UsageError, match="did you mean 'byol'"):
        accuracy_table(GRID, RESULTS, rows=["boyl"])
    with pytest.raises(UsageError, match="did you mean 'cars'"):
        accuracy_table(GRID, RESULTS, datasets=["car"])


def test_results_csv_is_read_back_and_a_missing_column_named(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(ResultLine)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(result) for result in RESULTS)
    assert read_results(path) == RESULTS
    path.write_text("grid,row\ntoy,byol\n")
    with pytest.raises(UsageError, match="seed"):
        read_results(path)
    with pytest.raises(UsageError, match="suite run"):
        read_results(tmp_path / "none.csv")


def test_csv_keeps_full_precision_and_shows_holes() -> None:
    table = accuracy_table(GRID, RESULTS, published=PUBLISHED)
    lines = {(r["row"], r["dataset"]): r for r in csv.DictReader(io.StringIO(to_csv(table)))}
    assert len(lines) == 6
    random = lines["random", "cub"]
    assert float(random["std"]) == cell(table, "random", "cub").std
    assert (random["mean"], random["seeds"], random["delta"]) == ("40.5", "2", "-11.0")
    assert float(random["published_delta"]) == table.published["random", "cub"].delta
    hole = lines["byol", "cars"]
    assert (hole["mean"], hole["std"], hole["seeds"], hole["delta"], hole["published"]) == ("", "", "0", "", "")


def test_text_shows_both_blocks_and_escapes_markup() -> None:
    from rich.console import Console

    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(to_text(accuracy_table(GRID, RESULTS, published=PUBLISHED)))
    text = console.export_text()
    assert "[x]" in text  # not taken for markup
    assert "51.50 ±2.12 -" in text
    assert "51.50 ±0.70 (-0.00)" in text
    assert text.index("Published") > text.index("51.50")
    assert "58.51 (-6.34)" in text


def test_tables_need_neither_torch_nor_matplotlib_nor_pandas() -> None:
    program = (
        "import sys, analysis.tables.latex, analysis.tables.text\n"
        "sys.exit(' '.join({'torch', 'matplotlib', 'pandas'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_heading_of_drawn_data_cannot_be_taken_for_photographs() -> None:
    from rich.console import Console

    from analysis.page.tables import page_table
    from analysis.tables.latex import to_latex

    table = accuracy_table(GRID, RESULTS, published=PUBLISHED, synthetic=["cub"], partial=["cub"])
    heading, above = "Synthetic birds (CUB layout)", "Published (paper, ResNet-50, photographs)"
    assert table.labels == (heading, "Cars")
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(to_text(table))
    in_latex = (
        r"\begin{tabular}[b]{@{}c@{}}Synthetic birds\\(CUB layout)\rlap{*}\end{tabular}"  # two lines: a narrow column
    )
    for text, expected in ((console.export_text(), heading), (to_latex(table), in_latex)):
        assert expected in text
        assert above in text
    assert page_table(table).columns == [f"{heading}*", "Cars"]
    assert accuracy_table(GRID, RESULTS).labels == ("CUB", "Cars")


def test_a_caption_has_two_sentences() -> None:
    assert accuracy_table(GRID, RESULTS, published=PUBLISHED, synthetic=["cub"], partial=["cub", "cars"]).caption == (
        "Profile small, not the paper's protocol, on synthetic images and subsets of the official data, "
        "mean \N{PLUS-MINUS SIGN} standard deviation over 2 seeds.",
        "Best in bold, second best underlined; in parentheses the difference to BYOL, coloured where its 95 % interval "
        "excludes 0.",
    )
    paper = [line(row, "cub", 0, value, profile="paper") for row, value in (("byol", 50.0), ("random", 40.0))]
    assert accuracy_table(GRID, paper).caption[0] == "One seed."
    assert accuracy_table(GRID, []).caption == ("No results yet.",)


def test_the_terminal_has_a_short_caption_and_one_box_with_the_setup() -> None:
    from rich.console import Console

    table = accuracy_table(GRID, RESULTS, caption_notes=["CUB [subset]: 600/5994 train"])
    for width in (40, 80, 200):
        console = Console(width=width, file=io.StringIO(), record=True)
        console.print(to_text(table))
        assert "600/5994" not in console.export_text()
        console.print(setup_text(table))
        console_text = console.export_text()
        lines = console_text.splitlines()
        assert "Setup" in lines[0]
        assert max(map(len, lines)) <= width
        assert "CUB [subset]: 600/5994 train." in " ".join(console_text.split())
