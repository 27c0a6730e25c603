"""The record of a cell (`<runs>/grids/*.json`), and the rows of `<runs>/results.csv`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from suite.errors import UsageError
from suite.grid.cell_jobs import CellJobs
from suite.grid.recipe import own_first_stage
from suite.kinds.base import Number
from suite.kinds.pretrain import PretrainSpec
from suite.kinds.registry import KINDS
from suite.store.store import Store


class _Recorded(BaseModel):
    """A part of a record. Fields that another version of the suite wrote are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class DatasetFacts(_Recorded):
    """What a caption must say about a dataset."""

    describe: str  # the counts, such as "CUB subset: 600/5994 train, ..."
    subset: bool
    synthetic: bool


class CheckpointFacts(_Recorded):
    """The checkpoint that took the place of a first stage; its origin where it is a public one (`--stage1 public`)."""

    name: str
    sha256: str
    publisher: str | None = None
    url: str | None = None
    epochs: int | None = None
    batch: int | None = None
    training: str | None = None  # in place of epochs and batch

    @property
    def origin(self) -> str:
        """Publisher and training of a public checkpoint; empty for a file of the user."""
        if self.publisher is None:
            return ""
        if self.training is not None:
            return f"{self.publisher}, {self.training}"
        return f"{self.publisher}, {self.epochs} epochs on ImageNet-1K, batch {self.batch}"

    @model_serializer(mode="wrap")
    def _without_empty_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class CellRecord(_Recorded):
    """One cell as it was run: its place in a table, its jobs and its recipe.

    Records of earlier versions lack the fields with defaults.
    """

    grid: str
    row: str
    method: str
    dataset: str
    stage1: str  # none, coco, imagenet
    stage2: str  # yes, no
    profile: str
    seed: int
    jobs: tuple[str, ...]  # keys, parents before children
    trained_with: tuple[str, ...] | None = None  # saliency detectors that the training read
    roles: dict[str, str] = Field(default_factory=dict)  # "stage 1", "finetune", ... -> key
    measured: dict[str, str]  # kind of job -> key of the job that gave the numbers
    set: dict[str, Any]  # --set
    recipe: dict[str, Any]
    origins: dict[str, str] = Field(default_factory=dict)  # dotted path of the recipe -> where its value came from
    first_stage: str | None = None  # own: by the row's own method; absent: by the plain objective, or none
    stage1_recipe: dict[str, Any] | None = None
    stage1_origins: dict[str, str] | None = None
    stage1_checkpoint: CheckpointFacts | None = None
    data: dict[str, DatasetFacts] = Field(default_factory=dict)

    @property
    def id(self) -> str:
        """As `--only` takes it, such as ``byol_cvsa/cub/0``."""
        return f"{self.row}/{self.dataset}/{self.seed}"

    @property
    def row_and_dataset(self) -> tuple[str, str]:
        """Where its number stands in a table."""
        return self.row, self.dataset

    @property
    def headlines(self) -> frozenset[str]:
        """Keys of the jobs that give the accuracy table's number: fine-tuning, or of a frozen row its measurements."""
        tuned = self.measured.get("finetune")
        return frozenset(self.measured.values()) if tuned is None else frozenset({tuned})

    def as_json(self) -> dict[str, Any]:
        """As it is written; a field that the record did not have stays absent."""
        return self.model_dump(mode="json", exclude_unset=True)


def record_of(
    item: CellJobs, profile: str, overrides: Mapping[str, Any], data: Mapping[str, Mapping[str, Any]]
) -> CellRecord:
    """The record of a planned cell.

    Args:
        item: the cell and its jobs.
        profile: name of the profile.
        overrides: what --set changed.
        data: per dataset, the fields of `DatasetFacts`.
    """
    cell, stages = item.cell, [job.spec for job in item.stages]
    detectors = {spec.saliency.detector for spec in stages if isinstance(spec, PretrainSpec) and spec.saliency}
    own = cell.stage1 is not None and own_first_stage(cell.row)
    return CellRecord.model_validate(
        {
            "grid": cell.grid,
            "row": cell.row.name,
            "method": cell.row.method,
            "dataset": cell.dataset,
            "stage1": cell.row.stage1,
            "stage2": "yes" if cell.row.stage2 else "no",
            "profile": profile,
            "seed": cell.seed,
            "jobs": [job.key for job in item.jobs],
            "trained_with": sorted(detectors),
            "roles": {role: job.key for role, job in item.roles.items()},
            "measured": item.measured,
            "set": dict(overrides),
            "recipe": cell.recipe.model_dump(mode="json"),
            "origins": dict(cell.resolved.origins),
            **({"first_stage": "own"} if own else {}),
            "stage1_recipe": cell.stage1 and cell.stage1.recipe.model_dump(mode="json"),
            "stage1_origins": cell.stage1 and dict(cell.stage1.origins),
            "stage1_checkpoint": item.checkpoint,
            "data": {name: data[name] for name in cell.data},
        }
    )


@dataclass(frozen=True, slots=True)
class ResultLine:
    """One line of `<runs>/results.csv`: one metric of one cell and one seed. The fields are the columns, in order."""

    grid: str
    row: str
    method: str
    dataset: str
    stage1: str  # none, coco, imagenet
    stage2: str  # yes, no
    profile: str
    protocol: str  # finetune, linear, knn, ...
    seed: int
    metric: str
    value: float  # top1: percent
    n: int  # number of test images; of retrieval, of queries
    key: str  # of the job that measured it

    @classmethod
    def parse(cls, line: Mapping[str, Any]) -> ResultLine:
        """From a mapping with the columns as keys, such as csv.DictReader's. Raises UsageError on a missing one."""
        missing = [field.name for field in fields(cls) if line.get(field.name) is None]
        if missing:
            raise UsageError(f"results lack the columns {missing}; expected {[f.name for f in fields(cls)]}.")
        types = {"seed": int, "value": float, "n": int}
        return cls(**{f.name: types.get(f.name, str)(line[f.name]) for f in fields(cls)})


COLUMNS = tuple(field.name for field in fields(ResultLine))


def result_lines(store: Store, records: Iterable[CellRecord]) -> list[ResultLine]:
    """One line per finished cell and metric."""
    lines = []
    for record in records:
        for kind, key in record.measured.items():
            result = store.result(key)
            if result is None:
                continue
            for number in _numbers(kind, result.metrics):
                lines.append(
                    ResultLine(
                        grid=record.grid,
                        row=record.row,
                        method=record.method,
                        dataset=record.dataset,
                        stage1=record.stage1,
                        stage2=record.stage2,
                        profile=record.profile,
                        protocol=number.protocol,
                        seed=record.seed,
                        metric=number.metric,
                        value=number.value,
                        n=result.counts[number.count],
                        key=key,
                    )
                )
    return lines


def _numbers(kind: str, metrics: Mapping[str, float]) -> Sequence[Number]:
    """Of a kind that is not registered, as of a plugin that was not loaded, all metrics under the kind's own name."""
    if kind in KINDS:
        return list(KINDS[kind].numbers(metrics))
    return [Number(kind, metric, value) for metric, value in metrics.items()]
