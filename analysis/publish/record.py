"""`published.json`: what a published folder holds, for programs. `suite leaderboard` reads it.

A reader refuses a format that it does not know. Fields that a later version adds within a format are ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from suite.errors import DataError, UsageError

FORMAT = 1
FILE = "published.json"
_DIGITS = 16  # of a recipe's hash


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class PublishedResult(_Part):
    """One number of one cell, as results.csv has it."""

    protocol: str
    metric: str
    value: float = Field(allow_inf_nan=False, description="top1: percent")
    n: int = Field(ge=1, description="number of test images")
    key: str = Field(description="of the job that measured it")


class PublishedCell(_Part):
    """One row on one dataset with one seed."""

    row: str
    label: str
    reference: str | None = Field(None, description="of a reference row: self-supervised or supervised; not ranked")
    method: str
    dataset: str
    seed: int
    stage1: str
    stage2: str
    recipe: str = Field(description="hash of the recipes, see `recipes`")
    data: str = Field(description="fingerprint of the dataset")
    changed: dict[str, Any] = Field(default_factory=dict, description="settings changed with --set")
    suspicious: list[str] = Field(default_factory=list, description="why a reader should doubt the numbers")
    results: list[PublishedResult] = Field(default_factory=list)


class PublishedDataset(_Part):
    """Images that cells were measured on."""

    name: str
    heading: str = Field(description="name as printed in tables; says where the images are synthetic")
    describe: str = Field(description="counts, such as: CUB subset: 600/5994 train, ...")
    subset: bool
    synthetic: bool
    fingerprint: str


class PublishedGrid(_Part):
    """The cells of one grid with one profile."""

    name: str
    title: str
    profile: str
    reference_row: str
    datasets: list[PublishedDataset]
    cells: list[PublishedCell]

    def dataset(self, cell: PublishedCell) -> PublishedDataset:
        """The images that a cell was measured on."""
        return next(one for one in self.datasets if (one.name, one.fingerprint) == (cell.dataset, cell.data))

    @model_validator(mode="after")
    def _datasets_named(self) -> PublishedGrid:
        known = {(one.name, one.fingerprint) for one in self.datasets}
        for cell in self.cells:
            if (cell.dataset, cell.data) not in known:
                raise ValueError(f"cell {cell.row}/{cell.dataset}/{cell.seed}: its dataset is not described")
        return self


class PublishedModel(_Part):
    """A network beside the tables."""

    folder: str
    grid: str
    cell: str
    stage: str
    sha256: str | None = Field(None, description="of the weights; None: only the card is published")


class Published(_Part):
    """The contents of published.json."""

    format: Literal[1] = 1
    title: str
    suite: str = Field(description="version of the suite that wrote the folder")
    commits: list[str] = Field(description="commits of the code that trained the cells")
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="day of publication, UTC")
    grids: list[PublishedGrid]
    recipes: dict[str, dict[str, Any]] = Field(description="hash -> recipe, first stage's recipe and checkpoint")
    models: list[PublishedModel] = Field(default_factory=list)
    files: dict[str, str] = Field(default_factory=dict, description="path of every other file -> SHA-256")

    @model_validator(mode="after")
    def _recipes_complete(self) -> Published:
        for name, recipes in self.recipes.items():
            if recipe_hash(recipes) != name:
                raise ValueError(f"recipe {name} is not the one that its name stands for")
        missing = {cell.recipe for grid in self.grids for cell in grid.cells} - self.recipes.keys()
        if missing:
            raise ValueError(f"recipes are missing: {', '.join(sorted(missing))}")
        return self


def recipe_hash(recipes: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of a cell's recipes: {"recipe": ..., "first_stage": ..., "checkpoint": ...}."""
    text = json.dumps(recipes, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def read_published(folder: Path) -> Published:
    """The record of a published folder.

    Raises:
        UsageError: the folder has none.
        DataError: it is damaged, or a later version of the suite wrote it.
    """
    path = folder / FILE
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist. Expected a folder that `suite publish --grid NAME --out FOLDER` wrote."
        )
    try:
        content = json.loads(path.read_text("utf-8"))
        if isinstance(content, dict) and content.get("format") != FORMAT:
            raise DataError(
                f"{path} has format {content.get('format')!r}, expected {FORMAT}: another version of the suite wrote "
                f"it (suite {content.get('suite')}). Install that version, or publish the grid again with this one."
            )
        return Published.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        raise DataError(f"{path} is damaged: {place}: {first['msg']}. Publish the grid again.") from None
    except ValueError:
        raise DataError(f"{path} is damaged: it is no JSON. Publish the grid again.") from None
