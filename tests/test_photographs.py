"""The tables of docs/photographs.md, and the README's share of them, are those of the results beside the page.

python tests/test_photographs.py           prints them
python tests/test_photographs.py --write   writes them into page and README, below the comment `<!-- NAME -->` of each
"""

from __future__ import annotations

import csv
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from analysis.cells.published import published_numbers
from analysis.cells.results import read_results
from analysis.statistics.intervals import paired_interval
from analysis.statistics.tests import holm, paired_t_test
from suite.grid.profile import load_profile
from suite.grid.recipe import resolve
from suite.grid.spec import Row, load_grid
from suite.store.cells import ResultLine

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "photographs.md"
README = DOCS.parent / "README.md"
RESULTS = DOCS / "photographs"
MINUS = "\N{MINUS SIGN}"
Column = tuple[str, str]  # protocol, metric

KNN, LINEAR, RANK1, TUNED = ("knn", "top1"), ("linear", "top1"), ("retrieval", "rank1"), ("finetune", "top1")
ACCURACY = {"kNN": KNN, "linear": LINEAR, "retrieval, Rank-1": RANK1, "mAP": ("retrieval", "map"), "fine-tuned": TUNED}
SHARES = {name: column for name, column in ACCURACY.items() if name != "mAP"}  # shares of the images, unlike mAP
POINTING, CAM = ("localisation", "act_pointing"), ("localisation", "cam_pointing")
EXCHANGED, GAP = ("background", "mixed_rand"), ("background", "bg_gap")
LOOK = {
    "pointing, pretrained": POINTING, "energy, pretrained": ("localisation", "act_energy"),
    "pointing, fine-tuned": CAM, "exchanged background": EXCHANGED, "BG-gap": GAP,
}  # fmt: skip
LOOK_DIFFERENCES = {name: column for name, column in LOOK.items() if name != "energy, pretrained"}


@dataclass(frozen=True)
class Results:
    """Results of one grid and dataset, with its rows in the order of the page."""

    lines: list[ResultLine]
    rows: list[Row]

    def values(self, row: str, column: Column) -> dict[int, float]:
        """{seed: value}."""
        return {
            line.seed: line.value for line in self.lines if (line.row, line.protocol, line.metric) == (row, *column)
        }

    def images(self, row: str, column: Column) -> int:
        """Test images behind one value."""
        (n,) = {line.n for line in self.lines if (line.row, line.protocol, line.metric) == (row, *column)}
        return n

    def label(self, row: str) -> str:
        """As in the paper's tables; and whether the row has the first of two stages alone."""
        (found,) = [each for each in self.rows if each.name == row]
        return found.label + (", first stage only" if found.stage1 != "none" and not found.stage2 else "")


def read(file: str, grid: str, dataset: str) -> Results:
    lines = [line for line in read_results(RESULTS / file) if (line.grid, line.dataset) == (grid, dataset)]
    found = {line.row for line in lines}
    return Results(lines, [row for row in load_grid(grid).rows if row.name in found])


def table(results: Results, columns: dict[str, Column]) -> list[str]:
    """Markdown: mean and, over several seeds, their standard deviation."""
    rows = [
        [
            results.label(row.name),
            *(number(list(results.values(row.name, column).values())) for column in columns.values()),
        ]
        for row in results.rows
    ]
    return markdown(["", *columns], rows)


def differences(results: Results, pairs: Sequence[tuple[str, str]], columns: dict[str, Column]) -> list[str]:
    """Markdown: mean difference in points with its 95 % interval; bold where that excludes 0."""
    rows = []
    for first, second in pairs:
        name = f"{results.label(first)} {MINUS} {results.label(second).removesuffix(' init')}"
        rows.append([name, *(difference(results, first, results, second, column) for column in columns.values())])
    return markdown(["", *columns], rows)


def difference(one: Results, first: str, other: Results, second: str, column: Column) -> str:
    ours, theirs, n = one.values(first, column), other.values(second, column), one.images(first, column)
    assert n == other.images(second, column)
    seeds = sorted(ours.keys() & theirs.keys())
    paired = paired_interval(ours, theirs, n)
    assert paired is not None
    low, high = paired[0]
    mean = statistics.fmean(ours[seed] - theirs[seed] for seed in seeds)
    text = f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", MINUS)
    return f"**{text}**" if low > 0 or high < 0 else text


def number(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.1f}"
    return (f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean).replace("-", MINUS)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def against_random(results: Results) -> list[tuple[str, str]]:
    return [(row.name, "random") for row in results.rows if row.name != "random"]


def search(file: str) -> list[tuple[str, str, float]]:
    """(row, base rate, held-out top-1) of every trial."""
    with (RESULTS / file).open(encoding="utf-8", newline="") as lines:
        return [(line["row"], line["base_lr"], float(line["held_out_top1"])) for line in csv.DictReader(lines)]


def rates() -> list[str]:
    """Markdown: held-out accuracy over the rate of fine-tuning, and its mean over the rows."""
    trials = search("finetune_rates.csv")
    tried = sorted({rate for _, rate, _ in trials}, key=float)
    rows = [
        [
            row.label,
            *(number([value for name, at, value in trials if (name, at) == (row.name, rate)]) for rate in tried),
        ]
        for row in load_grid("paper_table1").rows
    ]
    mean = ["mean", *(f"{statistics.fmean(value for _, at, value in trials if at == rate):.1f}" for rate in tried)]
    return markdown(["base rate", *tried], [*rows, mean])


def pretraining_trials() -> dict[str, list[tuple[float, float]]]:
    """{row: [(base rate, held-out top-1)]}, by rising rate."""
    trials: dict[str, list[tuple[float, float]]] = {}
    for row, rate, value in search("pretrain_rates.csv"):
        trials.setdefault(row, []).append((float(rate), value))
    return {row: sorted(of_row) for row, of_row in trials.items()}


def pretraining_rates() -> list[str]:
    """Markdown: held-out accuracy at half the rate of pretraining, at the rate and at twice the rate."""
    labels = {row.name: row.label for row in load_grid("paper_table1").rows}
    rows = [
        [labels[row], f"{trials[1][0]:g}", *(number([value]) for _, value in trials)]
        for row, trials in pretraining_trials().items()
    ]
    return markdown(["", "base rate", "half of it", "the rate", "twice"], rows)


def both_rates() -> list[str]:
    """Markdown: fine-tuned accuracy of seed 0 on test images, at the rate of the profile demo and at that of photos."""
    rows = [[row.label, *(number([each.values(row.name, TUNED)[0]]) for each in (SLOW, CUB))] for row in CUB.rows]
    return markdown(["base rate", "0.8", "1.6"], rows)


def cub_differences() -> list[str]:
    """Markdown: `differences`, with Random fine-tuned at .8 as a further reference."""
    pairs = [*against_random(CUB), ("byol_cvsa", "byol"), ("byol_dilo", "byol")]
    lines = differences(CUB, pairs, SHARES)
    further = ["fine-tuned, Random at 0.8", "---"]
    further += [difference(CUB, row, SLOW, "random", TUNED) if other == "random" else "" for row, other in pairs]
    return [f"{line} {cell} |" for line, cell in zip(lines, further, strict=True)]


def first_stage(results: Results) -> list[str]:
    """Markdown: rows with two stages against Random and against the same row with the second stage alone."""
    rows = []
    for row in results.rows:
        cells = [difference(results, row.name, CUB, "random", column) for column in (LINEAR, TUNED)]
        alone = [
            difference(results, row.name, CUB, row.name, column) if row.stage2 else "" for column in (LINEAR, TUNED)
        ]
        rows.append([results.label(row.name), *cells, *alone])
    kinds = ("linear", "fine-tuned")
    return markdown(
        ["", *(f"{MINUS} Random, {kind}" for kind in kinds), *(f"{MINUS} second stage only, {kind}" for kind in kinds)],
        rows,
    )


def scale_points(series: str) -> dict[str, Results]:
    """{scale: the results}, in the order of the grid, for one series of the sweep over Saliency Swap's scale."""
    rows = [row for row in SCALE.rows if row.series == series]
    return {str(row.set["views.scale"]): Results(SCALE.lines, [row]) for row in rows}


def scales() -> list[str]:
    """Markdown: fine-tuned and linear accuracy over the scale of Saliency Swap; first the bases without it."""
    series = {name: scale_points(name) for name in ("MoCo.v2+SS", "BYOL+SS", "BYOL+SS+Align")}
    head = ["scale", *(f"{name}, {kind}" for kind in ("fine-tuned", "linear") for name in series)]
    base = [
        number(list(SCALE.values(row, column).values()))
        for column in (TUNED, LINEAR)
        for row in ("moco_v2", "byol", "byol")
    ]
    rows = [
        [
            scale,
            *(
                number(list(points[scale].values(points[scale].rows[0].name, column).values()))
                for column in (TUNED, LINEAR)
                for points in series.values()
            ),
        ]
        for scale in series["BYOL+SS"]
    ]
    return markdown(head, [["without Saliency Swap", *base], *rows])


def swap_differences() -> list[str]:
    """Markdown: what Saliency Swap and the alignment change, each for itself."""
    pairs = [(SWAP, "byol_ss", CUB, "byol"), (CUB, "byol_cvsa", SWAP, "byol_ss"), (SWAP, "moco_v2_ss", CUB, "moco_v2")]
    columns = {**SHARES, "pointing, pretrained": POINTING, "exchanged background": EXCHANGED}
    rows = []
    for one, first, other, second in pairs:
        cells = [difference(one, first, other, second, column) for column in columns.values()]
        rows.append([f"{one.label(first)} {MINUS} {other.label(second)}", *cells])
    return markdown(["", *columns], rows)


def look(results: Results) -> list[str]:
    """Markdown: `table`, and the middle of the image in place of a network."""
    centre = [results.values("random", ("localisation", name)) for name in ("centre_pointing", "centre_energy")]
    cells = [number(sorted(set(values.values()))) for values in centre]
    return [*table(results, LOOK), *markdown(["the image's middle", *cells, "", "", ""], [])[:1]]


CUB = read("cub.csv", "paper_table1", "cub")
FIVE_SEEDS = {"random", "moco_v2", "byol", "byol_dilo", "byol_cvsa"}  # of CUB; the other rows have three
# Fine-tuned at .8: Random with every seed, the others with seed 0.
SLOW = read("cub_rate_0.8.csv", "paper_table1", "cub")
SWAP = read("cub_swap.csv", "small_study", "cub")  # Saliency Swap without alignment
SCALE = read("cub_scale.csv", "ss_scale", "cub")
TWO_STAGES = read("cub_two_stages.csv", "paper_table2", "cub")
SMALL = {name: read("aircraft_cars.csv", "paper_table1", name) for name in ("aircraft", "cars")}
BLOCKS = {
    "rates": rates(),
    "both rates": both_rates(),
    "pretraining rates": pretraining_rates(),
    "cub": table(CUB, ACCURACY),
    "cub differences": cub_differences(),
    "look": look(CUB),
    "look differences": differences(CUB, [("byol_cvsa", "byol"), ("byol_cvsa", "random")], LOOK_DIFFERENCES),
}  # fmt: skip
for _name, _results in SMALL.items():
    BLOCKS[_name] = table(_results, ACCURACY)
    BLOCKS[f"{_name} differences"] = differences(
        _results, against_random(_results), {"linear": LINEAR, "fine-tuned": TUNED}
    )


BLOCKS["swap"] = table(SWAP, {**ACCURACY, "pointing, pretrained": POINTING, "exchanged background": EXCHANGED})
BLOCKS["swap differences"] = swap_differences()
BLOCKS["scales"] = scales()
BLOCKS["two stages"] = table(TWO_STAGES, ACCURACY)
BLOCKS["first stage"] = first_stage(TWO_STAGES)
BLOCKS["aircraft background"] = table(
    SMALL["aircraft"], {name: column for name, column in LOOK.items() if column[0] == "background"}
)
BLOCKS["cars look"] = look(SMALL["cars"])
BLOCKS["readme"] = table(CUB, {"linear": LINEAR, "fine-tuned": TUNED, "highest activation on the bird": POINTING})


def mean(results: Results, row: str, column: Column) -> float:
    return statistics.fmean(results.values(row, column).values())


def further_sentences() -> list[str]:
    """What the prose says of two stages and of the scale of Saliency Swap."""
    base = {row: mean(SCALE, row, TUNED) for row in ("moco_v2", "byol")}
    means = {
        name: [mean(points, points.rows[0].name, TUNED) for points in scale_points(name).values()]
        for name in ("MoCo.v2+SS", "BYOL+SS", "BYOL+SS+Align")
    }
    assert max(means["MoCo.v2+SS"]) < base["moco_v2"]
    assert max(means["BYOL+SS"]) < base["byol"]
    theirs = SCALE.values("byol", TUNED)
    for points in scale_points("BYOL+SS+Align").values():
        ours = points.values(points.rows[0].name, TUNED)
        assert all(ours[seed] > theirs[seed] for seed in theirs)
    aligned = means["BYOL+SS+Align"]
    poster = {row: value for (row, _), value in published_numbers("ss_scale").items()}
    gains = [max(v for row, v in poster.items() if row.startswith(f"{b}_ss")) - poster[b] for b in ("moco_v2", "byol")]
    lead = [difference(TWO_STAGES, "byol_cvsa", TWO_STAGES, "byol", column).strip("*") for column in (LINEAR, TUNED)]
    dual, rows = published_numbers("paper_table2"), [row.name for row in TWO_STAGES.rows]
    rank = spearmanr([mean(TWO_STAGES, row, TUNED) for row in rows], [dual[row, "cub"] for row in rows])
    return [
        f"{lead[0]} points by a linear classifier and {lead[1]} after fine-tuning. The order of the rows",
        f"(Spearman's correlation {rank.statistic:.2f}, eleven rows)".replace("-", MINUS),
        "With the alignment, BYOL is better at every scale and with every seed",
        f"between {min(aligned):.1f} and {max(aligned):.1f} %",
        "no scale brings either base above itself in the mean",
        f"up to {gains[0]:.1f} points with MoCo.v2 and {gains[1]:.1f} with BYOL",
    ]


def sentences() -> list[str]:
    """What the prose says in numbers, without line breaks."""
    tuned = {row.name: mean(CUB, row.name, TUNED) for row in CUB.rows}
    ours = sorted(tuned, key=lambda row: -tuned[row])
    published = published_numbers("paper_table1")
    rank = spearmanr([tuned[row] for row in ours], [published[row, "cub"] for row in ours])
    linear = {row: f"{mean(CUB, row, LINEAR):.1f}" for row in tuned}
    swap = {seed: value - CUB.values("byol", TUNED)[seed] for seed, value in SWAP.values("byol_ss", TUNED).items()}
    dual = published_numbers("paper_table2")
    gains = [dual[row, "cub"] - published[row, "cub"] for row in tuned if (row, "cub") in dual and row != "simclr"]
    lead = {name: difference(CUB, "byol_cvsa", CUB, "byol", column).strip("*") for name, column in SHARES.items()}
    pointing = {row: f"{mean(CUB, row, POINTING):.1f}" for row in tuned}
    below = sum(SLOW.values(row, TUNED)[0] < SLOW.values("random", TUNED)[0] for row in tuned if row != "random")
    above = [
        sum(difference(CUB, row, CUB, "random", column).startswith("**+") for row in tuned if row != "random")
        for column in (KNN, LINEAR)
    ]
    assert (below, *above) == (7, 8, 8)
    unlucky, equal = min(swap.values()), max(swap.values())
    assert abs(equal) < 0.05
    slower = [value > CUB.values("random", TUNED)[seed] for seed, value in SLOW.values("random", TUNED).items()]
    assert (sum(slower), len(slower)) == (2, 5)
    by_seed = sorted(CUB.values("byol_cvsa", POINTING).values())
    others = sorted(FIVE_SEEDS - {"byol"})
    p_values = [
        paired_t_test([CUB.values(row, TUNED)[s] - CUB.values("byol", TUNED)[s] for s in range(5)]) for row in others
    ]
    corrected = holm([p for p in p_values if p is not None])[others.index("byol_cvsa")]
    apart = {
        name: difference(*pair, TUNED).strip("*")
        for name, pair in {
            "swap": (SWAP, "byol_ss", CUB, "byol"),
            "alignment": (CUB, "byol_cvsa", SWAP, "byol_ss"),
            "rot_pred": (CUB, "byol_cvsa", CUB, "rot_pred"),
        }.items()
    }
    return [
        "At .8 seven of the nine pretrained rows end below Random",
        "by kNN and by a linear classifier eight of the nine rows are above Random beyond the interval",
        f"({by_seed[0]:.0f} to {by_seed[-1]:.0f} %)",
        f"({published['byol_cvsa', 'cub']:.1f}, {published['rot_pred', 'cub']:.1f}, {published['looc', 'cub']:.1f})",
        f"{linear['byol_cvsa']} % with BYOL+CVSA, {linear['rot_pred']} with Rot-Pred, {linear['byol']} with BYOL and "
        f"{linear['random']} without pretraining",
        f"{tuned[ours[0]]:.1f} % with {CUB.label(ours[0])}, {tuned[ours[1]]:.1f} with {CUB.label(ours[1])}, "
        f"{tuned[ours[2]]:.1f} with {CUB.label(ours[2])}, {tuned['byol']:.1f} with BYOL",
        f"Random reaches {mean(SLOW, 'random', TUNED):.1f} % at .8 and {tuned['random']:.1f} at 1.6",
        f"BYOL+CVSA {MINUS} BYOL is {lead['kNN']} points by kNN, {lead['linear']} by a linear classifier, "
        f"{lead['retrieval, Rank-1']} by Rank-1 and {lead['fine-tuned']} after fine-tuning "
        f"(p = {corrected:.2f} after Holm's correction",
        f"Spearman's correlation with the paper's column for CUB is {rank.statistic:.2f} (ten rows, "
        f"p = {rank.pvalue:.3f})",
        f"in {pointing['byol_cvsa']} % of the images, with BYOL in {pointing['byol']} and without pretraining in "
        f"{pointing['random']}",
        f"{mean(CUB, 'byol_cvsa', CAM):.1f} against BYOL's {mean(CUB, 'byol', CAM):.1f}",
        f"it is {-unlucky:.1f} points below BYOL with the worst of five seeds and equal with the best",
        f"fine-tuned BYOL+SS {MINUS} BYOL is {apart['swap']} points, BYOL+CVSA {MINUS} BYOL+SS {apart['alignment']}",
        f"BYOL+CVSA {MINUS} Rot-Pred is {apart['rot_pred']} points after fine-tuning",
        f"adds {min(gains):.1f} to {max(gains):.1f} points after fine-tuning",
        f"BYOL+CVSA is {difference(CUB, 'byol_cvsa', CUB, 'byol', EXCHANGED).strip('*')} points above BYOL",
        f"the difference in the BG-gap is {difference(CUB, 'byol_cvsa', CUB, 'byol', GAP).strip('*')}",
    ]


@pytest.mark.parametrize("sentence", [*sentences(), *further_sentences()])
def test_the_prose_has_the_numbers_of_the_results(sentence: str) -> None:
    assert sentence in " ".join(PAGE.read_text("utf-8").split())


def test_the_readme_has_the_numbers_of_the_results() -> None:
    linear, tuned = (difference(CUB, "byol_cvsa", CUB, "byol", column).strip("*") for column in (LINEAR, TUNED))
    sentence = f"{linear} points by a linear classifier, {tuned} after fine-tuning"
    assert sentence in " ".join(README.read_text("utf-8").split())


def test_cvsa_is_ahead_of_byol_with_every_seed() -> None:
    for column in ACCURACY.values():
        ours, theirs = CUB.values("byol_cvsa", column), CUB.values("byol", column)
        assert all(ours[seed] > theirs[seed] for seed in range(5)), column


@pytest.mark.parametrize("name", BLOCKS)
def test_the_page_has_the_table_of_the_results(name: str) -> None:
    text = file_of(name).read_text("utf-8")
    assert filled(name, text) == text, "python tests/test_photographs.py --write"


@pytest.mark.parametrize("results", [CUB, *SMALL.values()], ids=["cub", *SMALL])
def test_the_results_are_those_of_the_profile_and_of_every_row(results: Results) -> None:
    assert {line.profile for line in results.lines} == {"photos"}
    assert {row.name for row in results.rows} == {row.name for row in load_grid("paper_table1").rows}
    for row in results.rows:
        seeds = range((5 if row.name in FIVE_SEEDS else 3) if results is CUB else 1)
        for column in (*ACCURACY.values(), *(LOOK.values() if results is CUB else ())):
            assert results.values(row.name, column).keys() == set(seeds), (row.name, column)


def test_two_stages_and_the_scales_have_three_seeds() -> None:
    for results, grid, seeds in ((TWO_STAGES, "paper_table2", 3), (SCALE, "ss_scale", 3)):
        assert {row.name for row in results.rows} == {row.name for row in load_grid(grid).rows}
        for row in results.rows:
            for column in ACCURACY.values():
                assert results.values(row.name, column).keys() == set(range(seeds)), (row.name, column)


def test_saliency_swap_alone_has_five_seeds() -> None:
    for row in SWAP.rows:
        for column in (*ACCURACY.values(), *LOOK.values()):
            assert SWAP.values(row.name, column).keys() == set(range(5)), (row.name, column)


def test_the_rate_of_the_profile_is_the_best_on_held_out_images() -> None:
    head, _, *tried, mean = ([cell.strip() for cell in line.strip("|").split("|")] for line in BLOCKS["rates"])
    best = max(zip(head[1:], mean[1:], strict=True), key=lambda pair: float(pair[1]))
    assert float(best[0]) == load_profile("photos").defaults["finetune"]["optimizer"]["base_lr"]
    gains = [float(faster) - float(slower) for _, _, slower, faster, *_ in tried if float(faster) > float(slower) + 1]
    page = " ".join(PAGE.read_text("utf-8").split())
    assert len(gains) == 6
    assert f"Six of the nine pretrained rows gain {min(gains):.1f} to {max(gains):.1f} points" in page


def test_the_search_for_rates_of_pretraining_is_around_those_of_the_profile_and_as_the_page_says() -> None:
    trials, better = pretraining_trials(), {}
    tuned = {row: value for row, rate, value in search("finetune_rates.csv") if rate == "1.6"}
    profile = load_profile("photos")
    recipes = {row.name: resolve(profile, row, {}).recipe for row in load_grid("paper_table1").rows}
    assert trials.keys() == recipes.keys() - {"random"}
    for row, of_row in trials.items():
        (half, low), (rate, value), (twice, high) = of_row
        assert (half, twice) == (rate / 2, rate * 2), row
        stage = recipes[row].pretrain
        assert stage is not None
        assert rate == stage.optimizer.base_lr, row
        assert value == tuned[row], row  # the same job
        if max(low, high) > value:
            better[row] = (low > high, f"{max(low, high) - value:.1f}")
    assert better == {"insloc": (False, "0.6"), "byol": (True, "0.1"), "byol_dilo": (True, "1.8")}
    best = {row: max(value for _, value in of_row) for row, of_row in trials.items()}
    assert f"{best['byol'] - best['byol_cvsa']:.1f}" == "0.5"


def file_of(name: str) -> Path:
    return README if name == "readme" else PAGE


def filled(name: str, text: str) -> str:
    """The text with this table below its comment."""
    marker = f"<!-- {name} -->"
    assert text.count(marker) == 1, f"{file_of(name).name} needs one line {marker}"
    table_of_it = "\n".join([marker, "", *BLOCKS[name], "", ""])
    return re.sub(re.escape(marker) + r"\n\n(\|[^\n]*\n)*\n?", lambda _: table_of_it, text)


if __name__ == "__main__":
    for block, lines in BLOCKS.items():
        if "--write" in sys.argv:
            file_of(block).write_text(filled(block, file_of(block).read_text("utf-8")), "utf-8")
        else:
            print("", block, *lines, sep="\n")
    if "--write" not in sys.argv:
        print("", *sentences(), *further_sentences(), sep="\n")
