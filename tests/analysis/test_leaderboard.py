"""Rows are ranked together only where they are comparable; ranks and intervals are those of the data."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis.publish.leaderboard import Ranking, RankingBlock, rankings
from analysis.publish.leaderboard_page import axis, strip, write_leaderboard
from analysis.publish.publish import PublicationOptions, publish
from analysis.publish.record import Published, read_published, recipe_hash
from analysis.statistics.intervals import wilson_interval
from analysis.statistics.tests import t_interval
from suite.cli import app
from suite.errors import UsageError
from suite.grid.cells import Cell, Selection
from suite.workspace import Workspace

from .made_store import SUBSET, fill


def folder(
    root: Path, name: str, values: dict[str, float], profile: str = "small", facts: Any = SUBSET, **selection: Any
) -> Path:
    """A published folder of table 1 on CUB with these numbers: cell without its dataset -> percent."""

    def value(cell: Cell) -> float:
        return values.get(f"{cell.row.name}/{cell.seed}", values.get(cell.row.name, 0.0))

    methods = tuple(dict.fromkeys(key.partition("/")[0] for key in values))
    seeds = tuple(sorted({int(key.partition("/")[2] or 0) for key in values}))
    chosen = Selection(methods=methods, datasets=("cub",), seeds=seeds, **selection)
    fill(root / name, "paper_table1", chosen, profile, value, facts)
    publish(
        Workspace(root, root / name),
        PublicationOptions(("paper_table1",), title=f"Lab {name}"),
        root / f"{name}-public",
        date="2026-11-26",
    )
    return root / f"{name}-public"


def read(*folders: Path) -> dict[str, Published]:
    return {letter: read_published(path) for letter, path in zip("ABCD", folders, strict=False)}


def fine_tuned(sources: dict[str, Published]) -> tuple[RankingBlock, ...]:
    (ranking,) = rankings(sources, ["finetune"])
    return ranking.blocks


def test_comparable_folders_make_one_ranking(tmp_path: Path) -> None:
    first = folder(tmp_path, "a", {"byol/0": 70.0, "byol/1": 72.0, "random/0": 50.0, "random/1": 50.0})
    second = folder(tmp_path, "b", {"byol_cvsa": 71.0, "simclr": 40.0})
    (block,) = fine_tuned(read(first, second))
    rows = {row.label: row for row in block.rows}
    assert [row.label for row in block.rows] == ["BYOL", "BYOL+CVSA", "Random init", "SimCLR"]
    byol = rows["BYOL"]
    assert (byol.mean, byol.seeds, byol.over_seeds, byol.sources) == (71.0, (0, 1), True, ("A",))
    low, high = t_interval([70.0, 72.0]) or (0.0, 0.0)
    assert byol.interval == (max(0, low), min(100, high))
    cvsa = rows["BYOL+CVSA"]
    assert (cvsa.interval, cvsa.over_seeds, cvsa.sources) == (wilson_interval(71.0, 528), False, ("B",))
    ranks = {label: row.rank for label, row in rows.items()}
    # BYOL's interval of two seeds covers nearly everything, CVSA's lies above the last two, Random's above SimCLR's.
    assert ranks == {"BYOL": 1, "BYOL+CVSA": 1, "Random init": 3, "SimCLR": 4}


def test_seeds_of_one_row_are_pooled_and_a_job_counts_once(tmp_path: Path) -> None:
    first = folder(tmp_path, "a", {"byol/0": 70.0, "byol/1": 71.0})
    second = folder(tmp_path, "b", {"byol/1": 74.0, "byol/2": 72.0})
    (block,) = fine_tuned(read(first, second))
    (byol,) = block.rows
    assert (byol.seeds, byol.mean, byol.sources) == ((0, 1, 2), 71.0, ("A", "B"))
    assert byol.note == "seed 1: 74.00 in B, 71.00 in A counts"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"profile": "demo"}, "profile demo instead of small"),
        ({"overrides": {"pretrain.epochs": 3}}, "changed with --set: pretrain.epochs=3 instead of nothing"),
        ({"overrides": {"finetune.epochs": 3}}, "changed with --set"),
    ],
)
def test_other_protocols_stand_apart(other: dict[str, Any], reason: str, tmp_path: Path) -> None:
    first = folder(tmp_path, "a", {"byol": 60.0, "random": 50.0})
    second = folder(tmp_path, "b", {"simclr": 70.0}, **other)
    blocks = fine_tuned(read(first, second))
    assert [len(block.rows) for block in blocks] == [2, 1]
    assert (blocks[0].separation, blocks[1].separation[: len(reason)]) == ("", reason)
    assert [row.rank for row in blocks[1].rows] == [1]


def changed(published: Published, part: str, **values: Any) -> Published:
    """The record with other facts of its dataset, cells or results."""
    content = published.model_dump(mode="json")
    (grid,) = content["grids"]
    places = {"datasets": grid["datasets"], "cells": grid["cells"]}
    places["results"] = [result for cell in grid["cells"] for result in cell["results"]]
    for place in places[part]:
        place.update(values)
    if "fingerprint" in values:
        for cell in grid["cells"]:
            cell["data"] = values["fingerprint"]
    return Published.model_validate(content)


def test_other_images_and_other_recipes_stand_apart(tmp_path: Path) -> None:
    one = read_published(folder(tmp_path, "a", {"byol": 60.0, "random": 50.0}))
    other = changed(one, "datasets", fingerprint="0" * 20, describe="CUB: all")
    blocks = fine_tuned({"A": one, "B": other})
    assert blocks[1].separation == "other images (CUB: all; fingerprint 00000000)"
    fewer = changed(one, "results", n=100)
    assert fine_tuned({"A": one, "B": fewer})[1].separation == "100 test images instead of 528"
    # The same profile's name, but another recipe in it.
    content = one.model_dump(mode="json")
    renamed = {}
    for name, recipes in content["recipes"].items():
        if recipes["recipe"]["pretrain"]:
            recipes["recipe"]["pretrain"]["epochs"] = 7
        renamed[name] = recipe_hash(recipes)
    content["recipes"] = {renamed[name]: recipes for name, recipes in content["recipes"].items()}
    for cell in content["grids"][0]["cells"]:
        cell["recipe"] = renamed[cell["recipe"]]
    blocks = fine_tuned({"A": one, "B": Published.model_validate(content)})
    assert blocks[1].separation.startswith("row BYOL has another recipe: recipe.pretrain.epochs 7 instead of ")


def test_the_saliency_of_measurements_is_no_other_recipe(tmp_path: Path) -> None:
    """A row without an objective reads no saliency in training."""
    one = read_published(folder(tmp_path, "a", {"random": 50.0}))
    (ranking,) = rankings({"A": one, "B": one}, ["finetune"])
    assert len(ranking.blocks) == 1
    assert ranking.blocks[0].rows[0].sources == ("A", "B")


def test_the_page_and_its_csv(tmp_path: Path) -> None:
    first = folder(tmp_path, "a", {"byol": 60.0, "random": 50.0})
    second = folder(tmp_path, "b", {"simclr": 70.0}, profile="demo")
    hostile = read_published(second).model_copy(update={"title": "<script>alert(1)</script>"})
    (second / "published.json").write_text(hostile.model_dump_json(), "utf-8")
    index, table = write_leaderboard([first, second], tmp_path / "board", "Birds")
    text = index.read_text("utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "Not ranked with the first block: profile demo instead of small." in text
    lines = list(csv.DictReader(table.read_text("utf-8").splitlines()))
    assert {line["protocol"] for line in lines} == {"finetune", "linear", "knn"}
    tuned = [line for line in lines if line["protocol"] == "finetune"]
    assert [(line["block"], line["rank"], line["label"]) for line in tuned][2] == ("2", "1", "SimCLR")
    assert float(tuned[0]["low"]) < float(tuned[0]["mean"]) < float(tuned[0]["high"])


def test_strips_stay_within_the_axis(tmp_path: Path) -> None:
    (ranking,) = rankings(read(folder(tmp_path, "a", {"byol": 99.9, "random": 0.0})), ["finetune"])
    (block,) = ranking.blocks
    low, high = axis(block)
    assert (low, high) == (0, 100)
    for row in block.rows:
        assert 'x1="' in strip(block, row)
    narrow = dataclasses.replace(block, rows=block.rows[:1])
    assert axis(narrow)[1] - axis(narrow)[0] >= 5


def test_the_command_and_its_mistakes(tmp_path: Path) -> None:
    first = folder(tmp_path, "a", {"byol": 60.0})
    command = ["leaderboard", str(first), "--out", str(tmp_path / "board")]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.output.splitlines() == [str(tmp_path / "board" / name) for name in ("index.html", "leaderboard.csv")]
    with pytest.raises(UsageError, match="suite publish"):
        CliRunner().invoke(app, ["leaderboard", str(tmp_path), "--out", str(tmp_path / "x")], catch_exceptions=False)
    with pytest.raises(UsageError, match="none of the folders has top-1 by zeroshot"):
        CliRunner().invoke(app, [*command, "--protocol", "zeroshot"], catch_exceptions=False)


def test_rankings_name_their_dataset(tmp_path: Path) -> None:
    synthetic = {**SUBSET, "synthetic": True}
    found: list[Ranking] = rankings(read(folder(tmp_path, "a", {"byol": 60.0}, facts=synthetic)))
    assert {ranking.heading for ranking in found} == {"Synthetic birds (CUB layout)"}


def test_a_reference_row_is_shown_without_a_rank_and_changes_no_others_rank(tmp_path: Path) -> None:
    place = folder(tmp_path, "a", {"byol": 70.0, "random": 20.0, "simclr": 90.0})
    record = read_published(place)
    (grid,) = record.grids
    cells = [cell.model_copy(update={"reference": "supervised"} if cell.row == "simclr" else {}) for cell in grid.cells]
    marked = record.model_copy(update={"grids": [grid.model_copy(update={"cells": cells})]})
    ranks = {row.label: row.rank for row in fine_tuned({"A": marked})[0].rows}
    assert ranks == {"SimCLR": 0, "BYOL": 1, "Random init": 2}
    assert {row.label: row.rank for row in fine_tuned({"A": record})[0].rows}["BYOL"] == 2
