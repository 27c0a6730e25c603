import dataclasses
import random
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from analysis.cells.published import printed_deltas, published_numbers
from analysis.tables.accuracy import Table, accuracy_table
from analysis.tables.latex import to_latex
from analysis.tables.latex_text import escape, named, unprintable
from suite.grid.spec import load_grid

from .table_fixtures import GRID, PUBLISHED, RESULTS, line

NEEDS_LATEX = pytest.mark.skipif(
    not all(map(shutil.which, ("pdflatex", "kpsewhich")))
    or not subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True, check=False).stdout,
    reason="pdflatex or siunitx is not installed (Debian: texlive-latex-extra, texlive-science)",
)
# The text of a page: CVPR's (6.875 in, two columns) and BMVC's (12.2 cm, one column), in their type.
PAPERS = {
    "cvpr": r"\documentclass[10pt,twocolumn,letterpaper]{article}\usepackage{times}"
    r"\usepackage[text={6.875in,8.875in},centering]{geometry}\setlength{\columnsep}{0.3125in}",
    "bmvc": r"\documentclass[10pt]{article}\usepackage{times}"
    r"\usepackage[paperwidth=410pt,paperheight=620pt,text={12.2cm,17.8cm},centering]{geometry}",
}
COMPLAINTS = ("Overfull", "Warning: ", "incomplete", "undefined", "Missing character")


def pdflatex(folder: Path, name: str) -> str:
    """Compile twice, as references need; the log of the second run, which must hold no complaint."""
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name],
            cwd=folder, capture_output=True, text=True, check=False, errors="replace",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
    log = (folder / name).with_suffix(".log").read_text(errors="replace")
    assert [text for text in log.splitlines() if any(word in text for word in COMPLAINTS)] == []
    return log


def made_up(name: str, seeds: int, profile: str = "paper") -> Table:
    """One of the paper's tables, as wide as it gets: published numbers and noise, a hole, all marks, odd characters."""
    grid, published, rng = load_grid(name), published_numbers(name), random.Random(0)
    cells = [(row.name, dataset) for row in grid.rows for dataset in grid.datasets if row.name != "looc"]
    results = [
        dataclasses.replace(
            line(row, dataset, seed, published.get((row, dataset), 70.0) + rng.gauss(0, 0.5), grid=name),
            n=528, profile=profile,
        )
        for row, dataset in cells
        for seed in range(seeds)
    ]  # fmt: skip
    return accuracy_table(
        grid,
        results,
        published=published,
        printed_deltas=printed_deltas(name),
        caption_notes=[r"100% of R&D_set #3 {x} ~ ^ \ < > | \"$5\" -- ± † é ß 漢 [a]", "CUB subset: 600/5994 train"],
        suspicious=[cells[0], cells[-1]],
        oracle=[cells[-1]],
        stale=[cells[-1], cells[1]],
        partial=["cub"],
    )


def full_table() -> str:
    return to_latex(made_up("paper_table1", 3))


def test_cells_look_like_the_posters() -> None:
    text = to_latex(accuracy_table(GRID, RESULTS, published=PUBLISHED))
    assert r"{BYOL} & {\textbf{51.50}} & \spread{2.12} & -- & \multicolumn{3}{c}{--} \\" in text
    assert r"{Random init} & 40.50 & \spread{0.71} & \undecided{-11.00} & 30.00 &  &  \\" in text
    # A loss stays one, however it rounds; and second best, by means that are not rounded.
    assert r"& {\underline{51.50}} & \spread{0.70} & \undecided{-0.00} &" in text
    assert r"\cmidrule(lr){2-4}" in text
    assert r"\cmidrule(lr){5-7}" in text


def test_the_published_block_stands_apart_below_with_its_own_heading() -> None:
    text = to_latex(accuracy_table(GRID, RESULTS, published=PUBLISHED))
    measured, published = re.split(r"\\midrule\n\s*\\multicolumn\{7\}\{l\}\{\\textit\{Published", text)
    assert r"\textit{Measured (profile small)}" in measured
    assert r"{Random init} & 58.51 &  & \undecided{-6.34} & \multicolumn{3}{c}{--}" in published
    assert "58.51" not in measured
    assert "A\\&B" not in published  # nothing was published for that row
    assert "Published" not in to_latex(accuracy_table(GRID, RESULTS))


def test_stage2_gets_a_column_only_where_some_rows_skip_it() -> None:
    assert "Stage 2" not in to_latex(accuracy_table(GRID, RESULTS))
    row = GRID.rows[2].model_copy(update={"stage1": "coco", "stage2": False})
    text = to_latex(accuracy_table(GRID.model_copy(update={"rows": (*GRID.rows[:2], row)}), RESULTS))
    assert "Method & Stage 2 & " in text
    assert "{BYOL} & yes & " in text
    assert re.search(r"\{A\\&B.*\} & no & ", text)


def test_a_suspicious_number_carries_a_dagger() -> None:
    text = to_latex(accuracy_table(GRID, RESULTS, suspicious=[("mine", "cars")]))
    assert r"{\llap{$^{\dagger}$}\textbf{71.00}}" in text
    assert r"$\dagger$: suspicious" in text


def test_the_same_table_gives_the_same_bytes() -> None:
    assert full_table() == full_table()
    table = accuracy_table(GRID, RESULTS)
    assert to_latex(accuracy_table(GRID, RESULTS[::-1])) == to_latex(table)


@pytest.mark.parametrize(
    ("plain", "latex"),
    [
        ("R&D_50% #1 $x$", r"R\&D\_50\% \#1 \$x\$"),
        (r"\{}", r"\textbackslash{}\{\}"),
        ("a -- b ---", "a -{}- b -{}-{}-"),
        ("two\n\nlines", "two lines"),
        ("café 漢", r"caf\'{e} {[}U+6F22{]}"),
        ("± †", r"$\pm$ $\dagger$"),
    ],
)
def test_plain_text_is_escaped(plain: str, latex: str) -> None:
    assert escape(plain) == latex
    assert escape(escape(plain)) == latex  # once only


@pytest.mark.parametrize(
    ("plain", "latex"),
    [
        ("ψ-Net ΔΩ", r"$\psi$-Net $\Delta$$\Omega$"),
        ("Ångström, Strauß", r"\r{A}ngstr\"{o}m, Strau\ss{}"),
        ("Wałęsa", r"Wa\l{}{\fontencoding{T1}\selectfont \k{e}}sa"),
        ("Đurić", r"{\fontencoding{T1}\selectfont \DJ{}}uri\'{c}"),
        ("ï ǰ ķ ọ", r"\"{\i} \v{\j} \c{k} \d{o}"),
        ("Nguyễn", r"Nguy$\tilde{\hat{\mathrm{e}}}$n"),
        ("ά", r"$\acute{\alpha}$"),
        ("a → b ≠ c", r"a $\rightarrow$ b $\neq$ c"),
        ("10⁻³ H₂O ﬁ ½", r"10\textsuperscript{$-$}\textsuperscript{3} H\textsubscript{2}O fi 1/2"),
        ("[x]", "{[}x{]}"),
        ("zero\N{ZERO WIDTH SPACE}width", "zerowidth"),
    ],
)
def test_letters_beyond_ascii(plain: str, latex: str) -> None:
    assert escape(plain) == latex
    assert escape(unicodedata.normalize("NFD", plain)) == latex
    assert unprintable(latex) == []


def test_names_that_no_font_has_stay_two_and_are_named(caplog: pytest.LogCaptureFixture) -> None:
    assert escape("鷲") != escape("鷹")
    assert unprintable(escape("Жук 鷲 鷲")) == list("Жук鷲")
    assert named("鷲") == "U+9DF2 CJK UNIFIED IDEOGRAPH-9DF2"
    text = full_table()
    assert "U+6F22 CJK UNIFIED IDEOGRAPH-6F22" in caplog.text
    assert "% Printed as a code point" in text.splitlines()[-1]


def test_no_two_letters_of_europe_become_one() -> None:
    letters = [chr(code) for code in [*range(0xC0, 0x250), *range(0x370, 0x400), *range(0x1E00, 0x2000)]]
    letters = [char for char in letters if char.isalpha() and unicodedata.is_normalized("NFKC", char)]
    printed: dict[str, str] = {}
    for char in letters:
        assert printed.setdefault(escape(char), char) == char


@NEEDS_LATEX
@pytest.mark.parametrize("encoding", ["OT1", "T1"])
def test_every_character_with_a_command_compiles(encoding: str, tmp_path: Path) -> None:
    codes = [*range(0xA1, 0x250), *range(0x370, 0x400), *range(0x1E00, 0x2000), *range(0x2010, 0x2300)]
    lines = [escape(chr(code)) for code in codes if chr(code).isprintable()]
    lines = [line for line in lines if not unprintable(line)]
    assert len(lines) > 600
    (tmp_path / "letters.tex").write_text(
        rf"\documentclass{{article}}\usepackage[{encoding}]{{fontenc}}\begin{{document}}\raggedright "
        + "\n\n".join(f"x{line}x" for line in lines)
        + r"\end{document}"
    )
    pdflatex(tmp_path, "letters.tex")


def test_the_source_holds_no_empty_line_and_only_ascii() -> None:
    text = full_table()
    assert text.isascii()
    assert "\n\n" not in text


@NEEDS_LATEX
def test_compiles_on_its_own(tmp_path: Path) -> None:
    (tmp_path / "paper_table1.tex").write_text(full_table())
    log = pdflatex(tmp_path, "paper_table1.tex")
    assert "(1 page" in log


@NEEDS_LATEX
@pytest.mark.parametrize("options", ["", "twocolumn", "12pt,twocolumn,a4paper"])
def test_can_be_input_into_a_paper(tmp_path: Path, options: str) -> None:
    (tmp_path / "paper_table1.tex").write_text(full_table())
    (tmp_path / "toy.tex").write_text(to_latex(accuracy_table(GRID, RESULTS, published=PUBLISHED)))
    (tmp_path / "main.tex").write_text(
        rf"\documentclass[{options}]{{article}}\usepackage{{booktabs,siunitx,xcolor}}\begin{{document}}"
        "\nBefore.\\input{paper_table1}\\input{toy}\n\nSee \\ref{tab:paper_table1} and \\ref{tab:toy}; LAST WORD\n"
        "\\typeout{reached the end}\\end{document}\n"
    )
    assert "reached the end" in pdflatex(tmp_path, "main.tex")  # \input did not end the document


@NEEDS_LATEX
@pytest.mark.parametrize("paper", PAPERS)
def test_every_table_fits_into_a_paper_however_many_seeds_it_has(tmp_path: Path, paper: str) -> None:
    tables = [made_up("paper_table1", 3), made_up("paper_table2", 10), made_up("paper_table3", 1, "small")]
    tables.append(made_up("ss_scale", 5))
    for table in tables:
        (tmp_path / f"{table.name}.tex").write_text(to_latex(table))
    inputs = "".join(rf"\input{{{table.name}}}" for table in tables)
    refs = ", ".join(rf"\ref{{tab:{table.name}}}" for table in tables)
    packages = r"\usepackage{booktabs,siunitx,xcolor}"
    text = rf"{PAPERS[paper]}{packages}\begin{{document}}{inputs} See {refs}.\end{{document}}"
    (tmp_path / "main.tex").write_text(text)
    pdflatex(tmp_path, "main.tex")  # its log has no overfull box and no float too large for a page
    if shutil.which("pdffonts"):
        fonts = subprocess.run(["pdffonts", "main.pdf"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "Type 3" not in fonts.stdout  # journals refuse bitmaps


@NEEDS_LATEX
def test_a_paper_without_the_packages_is_told_which(tmp_path: Path) -> None:
    (tmp_path / "toy.tex").write_text(to_latex(accuracy_table(GRID, RESULTS)))
    (tmp_path / "main.tex").write_text(r"\documentclass{article}\begin{document}\input{toy}\end{document}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert r"needs \usepackage{booktabs,siunitx,xcolor}" in done.stdout


def test_one_dataset_puts_measured_published_and_difference_side_by_side() -> None:
    text = to_latex(made_up("ss_scale", 1))
    assert r"\multicolumn{3}{c}{Measured, CUB\rlap{*}} & \multicolumn{3}{c}{Published}" in text
    assert r"\cmidrule(lr){8-10}" in text
    assert text.count("BYOL+SS, scale 0.4") == 1


def test_five_printed_differences_are_marked_and_quoted() -> None:
    first, second = to_latex(made_up("paper_table1", 1)), to_latex(made_up("paper_table2", 1))
    assert first.count(r"\rlap{$^{\mathparagraph}$}") == 1
    assert second.count(r"\rlap{$^{\mathparagraph}$}") == 4
    assert r"\undecided{+0.74}\rlap{$^{\mathparagraph}$}" in first
    assert "InsLoc on Cars +0.64" in first
    for quoted in (
        "SimCLR (no stage 2) on CUB $-$0.30",
        "MoCo.v2 on CUB $-$1.05",
        "InsLoc on CUB $-$0.20",
        "Aircraft $-$0.23",
    ):
        assert quoted in second


def test_measured_minus_published_is_a_block_of_its_own_and_only_of_photographs() -> None:
    assert r"\textit{Measured minus published}" in full_table()
    drawn = accuracy_table(GRID, RESULTS, published=PUBLISHED, synthetic=["cub"], partial=["cub"])
    assert "minus" not in to_latex(drawn)
    assert "No published number is subtracted from a number on synthetic images (CUB)." in drawn.notes


@NEEDS_LATEX
def test_the_setup_stands_below_the_table_and_can_be_left_out(tmp_path: Path) -> None:
    table = accuracy_table(GRID, RESULTS, published=PUBLISHED, caption_notes=["Watermark of the setup"])
    (tmp_path / "toy.tex").write_text(to_latex(table))
    packages = r"\documentclass{article}\usepackage{booktabs,siunitx,xcolor}"
    texts = []
    for preamble in ("", r"\newcommand{\suitesetup}[1]{}"):
        (tmp_path / "main.tex").write_text(rf"{packages}{preamble}\begin{{document}}\input{{toy}}\end{{document}}")
        pdflatex(tmp_path, "main.tex")
        if shutil.which("pdftotext") is None:
            pytest.skip("pdftotext is not installed (Debian: poppler-utils)")
        command = ["pdftotext", "main.pdf", "-"]
        texts.append(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    full, short = (" ".join(text.split()) for text in texts)
    assert "Watermark of the setup" in full
    assert "Watermark of the setup" not in short
    for text in (full, short):
        assert "Profile small, not the paper" in text
        assert "51.50" in text
