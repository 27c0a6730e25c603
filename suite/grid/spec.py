"""A grid file: which rows, on which datasets, make up one table of results. Pure data, no numbers of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from suite.data.catalogue import DATASETS
from suite.errors import UsageError, unknown
from suite.grid.validate import read_yaml, validated
from suite.paths import user_path

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

LABEL_FRACTION = "finetune.label_fraction"

Stage1 = Literal["none", "coco", "imagenet"]
FirstStage = Literal["plain", "own"]
Reference = Literal["self-supervised", "supervised"]


class Row(BaseModel):
    """One line of a table: a combination of objective, views and alignment, and the stages it goes through."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="unique in the grid; part of a cell's id")
    label: str = Field(description="as printed in the table")
    method: str = Field(description="what `--method` selects")
    objective: str | None = Field(None, description="file in methods/; None: no pretraining at all")
    views: str = Field("random_resized_crop", description="file in methods/views/")
    alignment: bool = Field(False, description="add CVSA's cross-view saliency alignment, L_Align")
    stage1: Stage1 = Field("none", description="dataset of the first stage")
    first_stage: FirstStage = Field(
        "plain",
        description="method of the first stage. plain: the objective with its plain views and without alignment; own: "
        "the row's views, alignment and `set`. `--set first_stage=...` has priority",
    )
    stage1_checkpoint: str | None = Field(
        None,
        description="file or URL#sha256=... of a first stage that others trained; `--stage1` has priority. Of a frozen "
        "row without an objective: of the backbone that is measured",
    )
    stage2: bool = Field(True, description="pretrain on the fine-grained training split")
    frozen: bool = Field(False, description="measure the frozen backbone only; no fine-tuning")
    measure: tuple[Literal["localisation", "background"], ...] = Field(
        (), description="of a frozen row: what is measured beside the probes, by the settings of the profile"
    )
    reference: Reference | None = Field(
        None,
        description="a frozen public checkpoint for orientation, pretrained without labels or with them (supervised): "
        "marked in tables, never best, never tested; left out of a run where its file is missing",
    )
    set: dict[str, Any] = Field(default_factory=dict, description="recipe fields this row overrides")
    series: str | None = Field(None, description="the line of the sweep's figure that the row is a point of")

    @model_validator(mode="after")
    def _consistent(self) -> Row:
        if self.objective is None and (self.alignment or self.stage1 != "none" or self.stage2):
            raise ValueError(f"row '{self.name}' has no objective, so it can have no stage and no alignment")
        if self.objective is not None and not self.stage2 and self.stage1 == "none":
            raise ValueError(f"row '{self.name}' has an objective but no stage that would train it")
        if self.measure and not self.frozen:
            raise ValueError(
                f"row '{self.name}' is not frozen, so the profile says what it is measured by, not `measure`"
            )
        if self.reference is not None and not (self.frozen and self.objective is None and self.stage1_checkpoint):
            raise ValueError(
                f"row '{self.name}' is a reference row: expected frozen: true, no objective and a stage1_checkpoint"
            )
        if self.first_stage == "own" and self.stage1 == "none":
            raise ValueError(f"row '{self.name}' has `first_stage: own` but no first stage: expected stage1: coco")
        return self


class GridSpec(BaseModel):
    """A table: rows x datasets. `suite run --grid NAME` reads it from experiments/grids/NAME.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str = Field(description="first sentence of the table's caption")
    datasets: tuple[str, ...]
    reference_row: str = Field(
        description="row the deltas in parentheses refer to; not to be confused with a row's `reference`"
    )
    first_stage: FirstStage = Field("plain", description="of the rows with a first stage that do not state it")
    published: str | None = Field(None, description="value of the `table` column in experiments/published/*.csv")
    sweep: str | None = Field(
        None,
        description="recipe field along the x axis of a figure; a row's `sweep: [...]` then stands for one row each",
    )
    set: dict[str, Any] = Field(
        default_factory=dict, description="recipe fields that every row overrides; a row's own `set` has priority"
    )
    rows: tuple[Row, ...]

    @model_validator(mode="before")
    @classmethod
    def _expanded(cls, data: Any) -> Any:
        """Give each row the grid's `set` and `first_stage`, and replace each row with a sweep by one row per value,
        before validation."""
        if not isinstance(data, dict) or not isinstance(data.get("rows"), list):
            return data
        field, rows = data.get("sweep"), []
        for row in _with_shared(data["rows"], data.get("set")):
            values = row.get("sweep") if isinstance(row, dict) else None
            if values is not None and field is None:
                raise ValueError(
                    f"row '{row.get('name')}' has a sweep, but the grid names no field: sweep: views.scale"
                )
            rows += [row] if values is None else [_point(row, str(field), value) for value in values]
        if field is not None:
            rows = [{"series": row.get("label"), **row} if isinstance(row, dict) else row for row in rows]
        if "first_stage" in data:
            rows = [_with_first_stage(row, data["first_stage"]) for row in rows]
        return {**data, "rows": rows}

    @model_validator(mode="after")
    def _consistent(self) -> GridSpec:
        names = [row.name for row in self.rows]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"row names must be unique, but {sorted(twice)} occur more than once")
        if self.reference_row not in names:
            raise ValueError(f"reference_row '{self.reference_row}' is not one of the rows {names}")
        if self.row(self.reference_row).reference is not None:
            raise ValueError(f"reference_row '{self.reference_row}' is a row with `reference`, which is not compared")
        for dataset in self.datasets:
            if dataset not in DATASETS or not DATASETS[dataset].labelled:
                labelled = [name for name, info in DATASETS.items() if info.labelled]
                raise ValueError(str(unknown("dataset", dataset, labelled)))
        return self

    def row(self, name: str) -> Row:
        """The row called `name`."""
        for row in self.rows:
            if row.name == name:
                return row
        raise unknown("row", name, [row.name for row in self.rows])


def _with_shared(rows: list[Any], shared: Any) -> list[Any]:
    """The rows with the grid's overrides below their own. What is no mapping is left to the validation."""
    if not isinstance(shared, dict):
        return rows
    return [{**row, "set": {**shared, **row.get("set", {})}} if isinstance(row, dict) else row for row in rows]


def _point(row: dict[str, Any], field: str, value: float) -> dict[str, Any]:
    """One row of a sweep: {"name": "byol_ss", "sweep": [...]} -> {"name": "byol_ss_0.3", "set": {field: 0.3}}."""
    rest = {key: kept for key, kept in row.items() if key != "sweep"}
    point = f"{100 * value:g} % of the labels" if field == LABEL_FRACTION else f"{field.rpartition('.')[2]} {value:g}"
    return {
        **rest,
        "name": f"{row.get('name')}_{value:g}",
        "label": f"{row.get('label')}, {point}",
        "series": row.get("label"),
        "set": {**row.get("set", {}), field: value},
    }


def _with_first_stage(row: Any, first_stage: Any) -> Any:
    """A row with the grid's method of the first stage, where it has such a stage and does not state the method."""
    if isinstance(row, dict) and row.get("stage1", "none") != "none":
        return {"first_stage": first_stage, **row}
    return row


def grid_file(name: str) -> Path:
    """Path of the shipped grid of that name, whether or not it exists."""
    return EXPERIMENTS / "grids" / f"{name}.yaml"


def load_grid(name_or_file: str) -> GridSpec:
    """Read a grid by the name of a shipped one or from a YAML file. Raises UsageError with the nearest match."""
    if Path(name_or_file).suffix in {".yaml", ".yml"}:
        path = user_path(name_or_file, "--grid")
    else:
        path = grid_file(name_or_file)
        if not path.is_file():
            raise unknown(
                "grid",
                name_or_file,
                [p.stem for p in path.parent.glob("*.yaml")],
                "A path must end in .yaml.",
            )
    if not path.is_file():
        raise UsageError(f"grid file {path} does not exist.")
    return validated(GridSpec, read_yaml(path), str(path))
