import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.latex import escape, to_latex
from analysis.tables import accuracy_table
from suite.grid.spec import load_grid, published_numbers

from .table_fixtures import GRID, PUBLISHED, RESULTS, line

NEEDS_LATEX = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
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


def full_table() -> str:
    """The paper's table with three seeds, the published block, a hole, a mark, and notes full of special characters."""
    grid, published = load_grid("paper_table1"), published_numbers("paper_table1")
    results = [
        dataclasses.replace(line(row, dataset, seed, value - seed, grid=grid.name), n=528)
        for (row, dataset), value in published.items()
        for seed in range(3)
        if (row, dataset) != ("looc", "cars")
    ]
    remarks = [r"100% of R&D_set #3 {x} ~ ^ \ < > | \"$5\" -- ± † é ß 漢 [a]", "CUB subset: 600/5994 train"]
    table = accuracy_table(grid, results, published=published, remarks=remarks, suspicious=[("byol", "cub")])
    return to_latex(table)


def test_cells_look_like_the_posters() -> None:
    text = to_latex(accuracy_table(GRID, RESULTS, published=PUBLISHED))
    assert r"{BYOL} & {\textbf{51.50}} & \spread{2.12} & \gain{+0.00} & \multicolumn{3}{c}{--} \\" in text
    assert r"{Random init} & 40.50 & \spread{0.71} & \loss{-11.00} & 30.00 &  &  \\" in text
    # A loss stays one, however it rounds; and second best, by means that are not rounded.
    assert r"& {\underline{51.50}} & \spread{0.70} & \loss{-0.00} &" in text
    assert r"\cmidrule(lr){2-4}" in text
    assert r"\cmidrule(lr){5-7}" in text


def test_the_published_block_stands_apart_below_with_its_own_heading() -> None:
    text = to_latex(accuracy_table(GRID, RESULTS, published=PUBLISHED))
    measured, published = re.split(r"\\midrule\n\s*\\multicolumn\{7\}\{l\}\{\\textit\{Published", text)
    assert r"\textit{Measured (profile small)}" in measured
    assert r"{Random init} & 58.51 &  & \loss{-6.34} & \multicolumn{3}{c}{--}" in published
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
        ("café 漢", "cafe ?"),
        ("± †", r"$\pm$ $\dagger$"),
    ],
)
def test_plain_text_is_escaped(plain: str, latex: str) -> None:
    assert escape(plain) == latex
    assert escape(escape(plain)) == latex  # once only


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
