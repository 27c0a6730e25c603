"""`suite compare`: two rows of a grid, in numbers and in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suite.cli import options
from suite.paths import path_option


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="name of a row, such as byol")],
    second: Annotated[str, typer.Argument(metavar="B", help="name of another row, such as byol_cvsa")],
    grid: Annotated[str | None, typer.Option("--grid", help="required if several grids have both rows")] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="required if the grid was run with more than one")
    ] = None,
    dataset: options.Datasets = None,
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", help="finetune, linear or knn [default: the first of them that both rows have]"),
    ] = None,
    difference: Annotated[
        float | None,
        typer.Option("--difference", min=0.01, help="points that matter to you [default: the measured difference]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=path_option("--out"), metavar="PATH", help="folder for the figures [default: RUNS/report]"
        ),
    ] = None,
    figure: Annotated[
        bool, typer.Option("--figure/--no-figure", help="write the forest plot and the learning curves")
    ] = True,
    runs: options.Runs = None,
    json_: Annotated[bool, typer.Option("--json", help="print the numbers as JSON; writes no figure")] = False,
) -> None:
    """Compare two rows on their common seeds, with 95 % intervals.

    Differences are B - A, in points of top-1. Intervals of single datasets are not corrected for their number.
    """
    import json
    from dataclasses import asdict

    from analysis.tables.pair import compare_rows
    from suite.api import resolve_names
    from suite.data.catalogue import DATASETS
    from suite.workspace import Workspace

    store = Workspace.of(None, runs).store
    datasets = resolve_names("dataset", dataset or (), {name: name for name in DATASETS})
    pair = compare_rows(store, first, second, grid, profile, protocol, datasets)
    sentences = pair.sentences(difference)
    if json_:
        print(json.dumps({**asdict(pair), "sentences": sentences}, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{pair.first} and {pair.second}: top-1 (%), {pair.protocol}, {pair.grid}, {pair.profile}")
    for name in ("Dataset", "Seeds", pair.first, pair.second, "Difference", "95 % interval"):
        table.add_column(name, justify="left" if name == "Dataset" else "right")
    for part in pair.datasets:
        low, high = part.interval
        numbers = (f"{part.first:.2f}", f"{part.second:.2f}", f"{part.difference:+.2f}", f"{low:+.2f} to {high:+.2f}")
        table.add_row(part.heading, str(len(part.seeds)), *numbers)
    Console().print(table)
    for sentence in sentences:
        print(sentence)
    if figure:
        from analysis.cells.learning import LearningCurves
        from analysis.figures.forest import forest_figure
        from analysis.figures.learning import learning_figure
        from suite.store.ledger import read_cells

        folder = out or store.root / "report"
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{pair.grid}_{pair.first}_{pair.second}"
        panels = LearningCurves(store, read_cells(store.root, pair.grid, pair.profile)).panels(pair)
        files = forest_figure(pair, folder / f"{stem}_{pair.protocol}")
        for path in (*files, *learning_figure(pair, panels, folder / f"{stem}_learning")):
            print(path)
