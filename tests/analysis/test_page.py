"""The report page without a browser: what it says, and that it holds nothing but what it should."""

from __future__ import annotations

import base64
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import Markup
from typer.testing import CliRunner

from analysis.page.build import page_figures, report_page
from analysis.page.curves import MOST_POINTS, Curve, chart, curve
from analysis.page.model import MOST_EMBEDDED, TEMPLATES, Page, PageBlock, PageCell, PageRow, PageTable, Section, render
from analysis.report import GridReport, write_overview, write_report
from suite.cli import app
from suite.jobs.identity import Job
from suite.workspace import Workspace

from .stores import made_up_store

HOSTILE = "<script>window.hacked = 1</script>\"'><img src=x onerror=hacked()>{{ 7 * 7 }}</pre></style>&amp;"


class Elements(HTMLParser):
    """Every element of a document with its attributes, and the text outside style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""
        self.text += " "

    def handle_data(self, data: str) -> None:
        if self.inside not in {"script", "style"}:
            self.text += data

    def values(self, attribute: str) -> list[str]:
        return [values[attribute] for _, values in self.found if attribute in values]


def report(workspace: Workspace, out: Path, *grids: str) -> str:
    written: list[GridReport] = [write_report(workspace, grid, None, out, None) for grid in grids]
    write_overview(workspace, written, out, None)
    return (out / "index.html").read_text("utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, drawn: Path, tiny_profile: Path) -> str:
    """Two seeds of two grids: a failed second stage, a collapsed one, a fine-tuning that has not begun."""
    root = tmp_path_factory.mktemp("page")

    def fate(job: Job) -> str:
        fates = {"pretrain byol cub s0": "failed", "pretrain byol_cvsa cars s1": "suspicious"}
        after = {"finetune byol cub s0": "new", "probe byol cub s0": "new", "finetune random cars s1": "new"}
        return {**fates, **after}.get(job.name, "done")

    made_up_store(root / "runs", drawn, tiny_profile, seeds=(0, 1), fate=fate)
    workspace = made_up_store(root / "runs", drawn, tiny_profile, "paper_table2", methods=("byol",), seeds=(0,))
    return report(workspace, root / "out", "paper_table1", "paper_table2")


def test_the_page_is_whole_and_loads_nothing(page: str) -> None:
    elements = Elements(page)
    ids = elements.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in elements.values("href") if link.startswith("#")} <= set(ids)
    assert {name for value in elements.values("data-copy") for name in [value]} <= set(ids)
    outside = [link for link in elements.values("href") + elements.values("src") if not link.startswith(("#", "data:"))]
    assert outside == []
    assert not re.search(r"https?:|@import|url\(", page)
    assert [tag for tag, _ in elements.found].count("script") == 1
    assert not [name for _, values in elements.found for name in values if name.startswith("on") or name == "style"]


def test_tables_are_tables(page: str) -> None:
    elements = Elements(page)
    heads = [values for tag, values in elements.found if tag == "th"]
    assert heads
    assert all(values.get("scope") in {"col", "row", "rowgroup"} for values in heads)
    assert [tag for tag, _ in elements.found].count("h1") == 1
    assert all(values.get("aria-label") for tag, values in elements.found if tag == "svg" and "class" in values)


def test_failed_suspicious_and_unfinished_cells_come_first(page: str) -> None:
    top = page[page.index('id="problems"') : page.index('id="grid-paper_table1"')]
    text = " ".join(Elements(top).text.split())
    assert "Failed, suspicious and unfinished cells" in text
    assert "failed pretrain byol cub s0 : TrainingError: pretrain byol cub s0 broke" in text
    assert "paper_table1 (tiny): BYOL on CUB, seed 0" in text
    assert "suspicious pretrain byol_cvsa cars s1 : the embeddings collapsed" in text
    assert "1 cell not finished" in text
    assert "Random init on Cars, seed 1" in text
    assert text.index("failed pre") < text.index("suspicious pre") < text.index("unfinished 1 cell")


def test_the_setup_stands_once_per_grid_and_captions_are_short(page: str) -> None:
    sections = re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL).split("<section id=")
    grids = [section for section in sections if section.startswith('"grid-')]
    assert grids
    for section in grids:
        assert section.count("Setup of these tables") == 1
        assert section.count("Test images: ") <= 1 + section.count("Notes on this table")
    captions = re.findall(r'<p class="caption"[^>]*>(.*?)</p>', page, re.DOTALL)
    assert captions
    assert max(len(Elements(caption).text.split()) for caption in captions) < 70


def test_a_cell_shows_its_recipe_with_origins_and_its_jobs(page: str) -> None:
    start = page.index('id="cell-paper_table1-byol_cvsa-cub"')
    cell = " ".join(Elements(page[start : page.index("</details>", start)]).text.split())
    assert "BYOL+CVSA on Synthetic birds (CUB layout)" in cell
    assert "pretrain.epochs 2 profile tiny" in cell
    assert re.search(r"views\.scale [0-9.]+ profile tiny, view saliency_swap", cell)
    assert "finetune.optimizer.reference_batch 256 default" in cell
    assert cell.count("stage 2 ") == 2  # one job per seed


def test_a_job_stands_once_with_its_environment_commit_hashes_and_the_end_of_its_log(page: str) -> None:
    assert page.count("<code>abcdef123456</code>") == page.count('id="job-')
    assert page.count('id="environment-') == 1
    start = page.index('id="jobs"')
    names = re.findall(r'<span class="name">([^<]*)</span> <code', page[start:])
    assert names.count("pretrain byol coco s0") == 1  # two datasets and two rows of table 2 share it
    assert f"sha256:{'0' * 64}" in page
    assert "line 10 of pretrain byol coco s0" in page
    assert "line 9 of pretrain byol coco s0" not in page  # the last twenty lines of thirty


def test_the_same_store_gives_the_same_page(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    workspace = made_up_store(tmp_path / "runs", drawn, tiny_profile, datasets=("cub",))
    assert report(workspace, tmp_path / "a", "paper_table1") == report(workspace, tmp_path / "b", "paper_table1")


@pytest.mark.parametrize("fate", ["new", "failed"])
def test_without_any_result_there_is_still_a_page(tmp_path: Path, drawn: Path, tiny_profile: Path, fate: str) -> None:
    workspace = made_up_store(tmp_path / "runs", drawn, tiny_profile, fate=lambda job: fate)
    text = " ".join(Elements(report(workspace, tmp_path, "paper_table1")).text.split())
    assert "0 of 6 cells complete" in text
    assert ("6 cells not finished" in text) == (fate == "new")
    assert ("pretrain byol cub s0 broke" in text) == (fate == "failed")


def test_the_command_states_the_date_and_itself(
    tmp_path: Path, drawn: Path, tiny_profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = made_up_store(tmp_path / "runs", drawn, tiny_profile, datasets=("cub",))
    words = ["report", "--grid", "paper_table1", "--no-figures", "--runs", str(workspace.runs)]
    monkeypatch.setattr("sys.argv", ["/usr/bin/suite", *words, "--profile", "my tiny"])
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    text = Elements((workspace.runs / "report" / "index.html").read_text("utf-8")).text
    assert re.search(r"Made on 20\d\d-\d\d-\d\d \d\d:\d\d UTC by suite report --grid paper_table1 --no-fig", text)
    assert text.count("--profile 'my tiny'") == 2  # head and provenance


def test_figures_can_be_downloaded_from_the_page_or_from_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.b.png").write_bytes(png := b"\x89PNG")
    (tmp_path / "a.b.pdf").write_bytes(b"%PDF" + bytes(MOST_EMBEDDED))
    (figure,) = page_figures([tmp_path / "a.b.pdf", tmp_path / "a.b.png"], "Title")
    pdf, small = figure.downloads
    assert pdf == ("PDF", "a.b.pdf", "a.b.pdf")  # too large for the page
    assert small == ("PNG", "a.b.png", f"data:image/png;base64,{base64.b64encode(png).decode()}")


def test_without_enough_datasets_the_page_says_why_there_is_no_figure_of_ranks(page: str) -> None:
    start = page.index('id="grid-paper_table1-compare"')
    assert "No critical-difference figure: it needs" in page[start : page.index("Training curves", start)]


def test_every_section_has_an_anchor_and_the_contents_list_them(page: str) -> None:
    elements = Elements(page)
    anchors = [values["href"] for tag, values in elements.found if values.get("class") == "anchor"]
    headings = [tag for tag, _ in elements.found if tag in {"h2", "h3"}]
    assert len(anchors) == len(set(anchors)) == len(headings)
    contents = Elements(page[page.index("<nav") : page.index("</nav>")]).values("href")
    assert contents == anchors


def test_another_profile_in_the_store_is_named(tmp_path: Path, drawn: Path, tiny_profile: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(tiny_profile.read_text("utf-8").replace("name: tiny", "name: other"), "utf-8")
    made_up_store(tmp_path / "runs", drawn, other, datasets=("cub",))
    workspace = made_up_store(tmp_path / "runs", drawn, tiny_profile, datasets=("cub",))
    write_overview(workspace, [write_report(workspace, "paper_table1", "tiny", tmp_path, None)], tmp_path, None)
    assert "Also run with the profile other, which is not shown here." in (tmp_path / "index.html").read_text("utf-8")


def hostile_page() -> Page:
    cell = PageCell(HOSTILE, sort=1.0, spread=HOSTILE, delta=HOSTILE, mark=HOSTILE, link="")
    table = PageTable(
        "t",
        HOSTILE,
        [HOSTILE],
        [HOSTILE],
        [HOSTILE],
        [PageBlock(HOSTILE, [PageRow(HOSTILE, [cell])])],
        HOSTILE,
        HOSTILE,
    )
    svg = chart(HOSTILE, [Curve(HOSTILE, 0, [(1, 1.0), (2, 0.5)])])
    section = Section("s", HOSTILE, HOSTILE, HOSTILE, setup=[HOSTILE], tables=[table], legend=[HOSTILE])
    assert isinstance(svg, Markup)
    return Page(HOSTILE, [HOSTILE, svg.striptags()], [section], provenance=[(HOSTILE, HOSTILE)])


def test_text_of_users_stays_text() -> None:
    elements = Elements(render(hostile_page()))
    tags = [tag for tag, _ in elements.found]
    assert (tags.count("script"), tags.count("style"), tags.count("img")) == (1, 1, 0)
    assert elements.text.count(HOSTILE) > 10
    assert "49" not in elements.text
    svg = Elements(str(chart(HOSTILE, [Curve(HOSTILE, 0, [(1, 1.0), (2, 0.5)])])))
    assert {tag for tag, _ in svg.found} == {"svg", "line", "text", "polyline", "title"}


def test_a_page_without_sections_is_a_page(tmp_path: Path) -> None:
    empty = report_page(Workspace(tmp_path, tmp_path).store, [], [])
    assert "this page cannot list failures" in render(empty)


def test_a_curve_is_thinned_from_its_end_and_broken_where_it_is_not_finite() -> None:
    lines = [{"epoch": float(n), "loss": float("nan") if n == 4 else 1.0 / n} for n in range(1, 500)]
    found = curve("x", 0, lines, "loss")
    assert found is not None
    assert len(found.points) <= MOST_POINTS
    assert found.points[-1] == (499, 1 / 499)
    broken = chart("t", [Curve("x", 0, [(1, 2.0), (2, 1.0), (3, float("inf")), (4, 1.0), (5, 0.5)])])
    assert broken.count("<polyline") == 2
    assert chart("t", [Curve("x", 0, [(1, float("nan"))])]) == ""
    assert "<circle" in chart("t", [Curve("x", 0, [(1, 3.0)])])
    assert curve("x", 0, lines, "accuracy") is None


def test_fixed_ends_of_an_axis_are_kept() -> None:
    svg = chart("t", [Curve("x", 0, [(1, 40.0), (2, 60.0)])], low=0, high=100)
    assert re.findall(r'text-anchor="end">([0-9.]+)<', svg)[:3] == ["0", "50", "100"]


def test_colours_have_the_contrast_of_level_aa() -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for lines and edges, on both grounds, light and dark."""
    css = (TEMPLATES / "page.css").read_text("utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#[0-9a-f]+)", part)) for part in css.split("@media")[:2]]

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        dark, light = sorted((luminance(one), luminance(other)))
        return (light + 0.05) / (dark + 0.05)

    for scheme, ground in itertools.product(schemes, ("paper", "wash")):
        for name in ("ink", "soft", "accent", "gain", "loss", "warn"):
            assert contrast(scheme[name], scheme[ground]) >= 4.5, (name, ground)
        for name in ("edge", *(f"c{number}" for number in range(8))):
            assert contrast(scheme[name], scheme[ground]) >= 3, (name, ground)
