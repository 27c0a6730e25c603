"""The report page in a browser without a screen: it sorts, copies, opens what a link points at, and says no error."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures.style import save
from analysis.page.build import page_figures
from analysis.page.model import (
    CellDetail,
    JobDetail,
    Page,
    PageBlock,
    PageCell,
    PageFigure,
    PageRow,
    PageTable,
    RowComparison,
    Section,
    SeedLine,
    Setting,
    render,
)

from .test_page import HOSTILE

webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install -e '.[dev]')")
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(
    None in (CHROMIUM, DRIVER), reason="no browser here (Debian: apt-get install chromium chromium-driver)"
)
FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync"),
)
PHOTO = (200, 120, 40)
LATEX, CSV = "\\begin{tabular} 1 & 2 \\\\\n<b>&amp;\n", "row,mean\na,1.5\n"


def pair(first: str, second: str) -> RowComparison:
    svg = Markup('<svg class="chart forest" aria-label="x" role="img" width="9" height="9"></svg>')
    numbers = [("CUB", "1", "2.00", "3.00", "+1.00", "-1.00 to +3.00")]
    words = [f"{first} and {second} {HOSTILE}"]
    identity = f"compare-{first}-{second}".replace(" ", "_")
    return RowComparison(
        identity, (first, second), (HOSTILE, second), "finetune", words, numbers, svg, [(HOSTILE, svg)], "x"
    )


def a_page(figures: Sequence[PageFigure] = ()) -> Page:
    def row(label: str, *values: float | None) -> PageRow:
        cells = [PageCell("–" if v is None else f"{v:.2f}", v, link="cell-a", delta="+1.00") for v in values]
        return PageRow(label, cells)

    measured = [row("b 10", 9.5, 1), row("a 9", 10.25, None), row(HOSTILE, 100, 3), row("c", None, 2)]
    published = PageBlock("Published", [row("one", 1, 1), row("two", 2, 0)], is_secondary=True)
    columns = ["CUB", HOSTILE, "NABirds", "Aircraft", "Cars"]
    wide = [PageRow(r.label, [*r.cells, *r.cells[:1] * 3]) for r in measured]
    table = PageTable("t", "Title", [HOSTILE], [HOSTILE], columns, [PageBlock("Measured", wide), published], LATEX, CSV)
    seeds = [SeedLine(0, {"finetune": "1.00"}, 60, [("finetune", "k1", "done")])]
    cell = CellDetail(
        "cell-a", HOSTILE, "CUB", "9.50", ["finetune"], seeds, [(HOSTILE, [Setting("a.b", HOSTILE, "x")])]
    )
    job = JobDetail("k1", HOSTILE, "done", 60, 10, "abc", 1, {"w": "0" * 64}, [HOSTILE], HOSTILE, HOSTILE * 5)
    broken = JobDetail("k2", "b", "failed", None, None, "", None, {}, [], HOSTILE, "")
    section = Section(
        "grid-x",
        HOSTILE,
        "demo",
        HOSTILE,
        tables=[table],
        cells=[cell],
        figures=figures,
        reference="b",
        comparisons=[pair("a", "b"), pair("a", "c d"), pair("b", "c d")],
    )
    return Page(HOSTILE, [HOSTILE], [section], [job, broken], [{"python": HOSTILE}], [("Seeds", "0")])


def two_figures(folder: Path) -> list[PageFigure]:
    """One photograph of one colour in the middle of a white figure, and an empty figure."""
    photo, lines = Figure(figsize=(2, 2)), Figure(figsize=(2, 2))
    axes = photo.add_axes((0.25, 0.25, 0.5, 0.5))
    axes.imshow(np.full((4, 4, 3), PHOTO, dtype=np.uint8))
    axes.set_axis_off()
    files = [*save(photo, folder / "photo"), *save(lines, folder / "lines")]
    return [figure for place in (0, 2) for figure in page_figures(files[place : place + 2], HOSTILE)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={folder / 'profile'}", "window-size=1280,900"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    (folder / "index.html").write_text(render(a_page(two_figures(folder))), "utf-8")
    driver.get((folder / "index.html").as_uri())
    yield driver
    driver.quit()


def first_column(browser: Any, block: int = 0) -> list[str]:
    rows = f"[...document.querySelector('table.sortable').tBodies[{block}].rows]"
    found: list[str] = browser.execute_script(f"return {rows}.map(r => r.cells[0].textContent.slice(0, 5))")
    return found


def heading(browser: Any, column: int) -> Any:
    return browser.find_elements("css selector", "table.sortable thead button")[column]


def states(browser: Any) -> list[str]:
    heads = browser.find_elements("css selector", "table.sortable thead th")
    return [head.get_attribute("aria-sort") for head in heads]


def test_nothing_was_refused_nothing_was_loaded_and_no_text_ran(browser: Any) -> None:
    assert browser.get_log("browser") == []
    assert browser.execute_script("return typeof window.hacked") == "undefined"
    requests = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert requests
    assert not any('"url":"http' in message for message in requests)
    assert HOSTILE in browser.find_element("css selector", "h1").text


def test_sorting_by_numbers_by_names_and_back(browser: Any) -> None:
    start = ["Measu", "b 10", "a 9", HOSTILE[:5], "c"]
    assert first_column(browser) == start
    heading(browser, 1).click()
    assert states(browser)[:3] == ["none", "descending", "none"]
    assert first_column(browser) == ["Measu", HOSTILE[:5], "a 9", "b 10", "c"]  # 100 before 10.25 before 9.5; a hole
    assert first_column(browser, 1) == ["Publi", "two", "one"]  # the blocks stay apart
    heading(browser, 1).send_keys("\ue007")  # Enter
    assert states(browser)[1] == "ascending"
    assert first_column(browser) == ["Measu", "b 10", "a 9", HOSTILE[:5], "c"]  # the hole stays last
    heading(browser, 1).click()
    assert states(browser)[1] == "none"
    assert first_column(browser) == start
    heading(browser, 0).click()
    assert first_column(browser)[2:] == ["a 9", "b 10", "c"]
    heading(browser, 2).click()  # another column takes over
    assert states(browser)[:3] == ["none", "none", "descending"]
    assert first_column(browser)[1:] == [HOSTILE[:5], "c", "b 10", "a 9"]  # a hole moves to the end
    heading(browser, 2).click()
    heading(browser, 2).click()
    assert first_column(browser) == start


@pytest.mark.parametrize(("which", "text"), [("Copy as LaTeX", LATEX), ("Copy as CSV", CSV)])
@pytest.mark.parametrize("clipboard", [True, False])
def test_copying(browser: Any, which: str, text: str, clipboard: bool) -> None:
    if clipboard:
        browser.execute_script("window.kept = []; navigator.clipboard.writeText = async (t) => { kept.push(t); }")
    else:  # where a page may not write, the old way is tried
        browser.execute_script(
            "window.kept = []; navigator.clipboard.writeText = async () => { throw new Error('refused'); };"
            "document.execCommand = () => { kept.push(document.activeElement.value); return true; };"
        )
    button = next(b for b in browser.find_elements("css selector", "[data-copy]") if b.text in {which, "Copied"})
    button.click()
    wait(browser, "return window.kept.length")
    assert browser.execute_script("return window.kept") == [text]
    assert wait(browser, "return document.getElementById('status').textContent") == f"{which}: copied"
    wait(browser, f"return document.querySelector('[data-copy=\"t-{which[8:].lower()}\"]').textContent === '{which}'")


def wait(browser: Any, script: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(script))


def test_a_number_opens_the_details_behind_it(browser: Any) -> None:
    assert not browser.find_element("id", "cell-a").get_attribute("open")
    browser.find_element("css selector", "a.value").click()
    wait(browser, "return document.getElementById('cell-a').open")
    browser.find_element("css selector", "#cell-a .jobs a").click()
    wait(browser, "return document.getElementById('job-k1').open")
    assert browser.execute_script("return document.activeElement.closest('details').id") == "job-k1"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_width_and_both_schemes(browser: Any, width: int, scheme: str) -> None:
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
    assert browser.execute_script("return document.querySelector('.scroll').tabIndex") == 0


def typed(browser: Any, table: str, words: str) -> list[str]:
    """The first column of the rows that are left after `words` were typed."""
    field = browser.find_element("css selector", f"[data-filter='{table}']")
    field.clear()
    field.send_keys(words)
    rows = browser.find_elements("css selector", f"#{table} tbody tr:not(.heading)")
    return [row.find_element("css selector", "th").text[:5] for row in rows if row.is_displayed()]


def test_filtering_by_words(browser: Any) -> None:
    assert typed(browser, "t-rows", "b 10") == ["b 10"]
    assert "1 of 6 rows" in browser.find_element("css selector", "[data-count='t-rows']").text
    assert typed(browser, "t-rows", "TWO") == ["two"]  # in any case
    assert browser.execute_script("return document.querySelector('table.sortable').tBodies[0].hidden")  # empty block
    assert typed(browser, "t-rows", "nothing") == []
    browser.find_element("css selector", "[data-filter='t-rows']").clear()
    assert len(typed(browser, "t-rows", " ")) == 6
    assert browser.find_element("css selector", "[data-count='t-rows']").text == ""


def test_details_follow_the_filter_of_their_list_and_a_link_lifts_it(browser: Any) -> None:
    assert typed(browser, "jobs-rows", "nothing") == []
    assert not browser.find_element("id", "job-k1").is_displayed()
    browser.execute_script("location.hash = ''; location.hash = 'job-k1'")
    wait(browser, "return !document.getElementById('job-k1').hidden")
    assert browser.find_element("css selector", "[data-filter='jobs-rows']").get_attribute("value") == ""


def test_lists_are_sorted_by_words_and_numbers(browser: Any) -> None:
    head = browser.find_elements("css selector", "#jobs-rows thead button")
    rows = "return [...document.querySelectorAll('#jobs-rows tbody tr')].map(r => r.cells[1].textContent)"
    head[1].click()
    assert browser.execute_script(rows) == ["done", "failed"]
    head[1].click()
    assert browser.execute_script(rows) == ["failed", "done"]
    head[2].click()
    assert browser.execute_script(rows) == ["done", "failed"]  # without a time it comes last
    head[2].click()
    assert browser.execute_script(rows) == ["done", "failed"]


def colours_at(browser: Any, selector: str, *places: tuple[float, float]) -> list[tuple[int, ...]]:
    """What the screen shows at shares of the size of an element."""
    element = browser.find_element("css selector", selector)
    browser.execute_script("arguments[0].scrollIntoView()", element)
    image = Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")
    found = [image.getpixel((int(x * image.width), int(y * image.height))) for x, y in places]
    return [colour for colour in found if isinstance(colour, tuple)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_follow_the_scheme_and_photographs_do_not(browser: Any, scheme: str) -> None:
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    ground, photo = colours_at(browser, "#figure-photo .picture", (0.05, 0.5), (0.5, 0.5))
    (line_ground,) = colours_at(browser, "#figure-lines img", (0.1, 0.5))
    assert all((part > 240) == (scheme == "light") for part in ground + line_ground)
    assert all(abs(part - wanted) < 12 for part, wanted in zip(photo, PHOTO, strict=True))


def pairs_shown(browser: Any) -> list[str]:
    found = browser.find_elements("css selector", ".pair")
    return [pair.get_attribute("id") for pair in found if pair.is_displayed() and pair.get_attribute("open")]


def choose(browser: Any, first: str, second: str) -> list[str]:
    from selenium.webdriver.support.ui import Select

    for field, name in zip(browser.find_elements("css selector", ".compare select"), (first, second), strict=True):
        Select(field).select_by_value(name)
    return pairs_shown(browser)


def test_two_rows_are_chosen_in_any_order(browser: Any) -> None:
    assert choose(browser, "b", "c d") == ["compare-b-c_d"]
    assert choose(browser, "c d", "a") == ["compare-a-c_d"]
    assert choose(browser, "a", "a") == []
    assert browser.find_element("css selector", ".compare [role=status]").text == "Choose two rows."
    browser.execute_script("location.hash = 'compare-a-b'")
    wait(browser, "return document.getElementById('compare-a-b').open")
    assert pairs_shown(browser) == ["compare-a-b"]
    assert browser.find_element("css selector", ".compare [role=status]").text == ""
    first, second = browser.find_elements("css selector", ".compare select")
    assert (first.get_attribute("value"), second.get_attribute("value")) == ("a", "b")


def test_the_reference_and_the_last_other_row_are_compared_at_first() -> None:
    (section,) = a_page().sections
    assert section.initial_rows == ("b", "c d")


def test_no_error_was_said_till_the_end(browser: Any) -> None:
    assert browser.get_log("browser") == []
