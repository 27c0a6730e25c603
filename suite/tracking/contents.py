"""What the runs of cells and jobs hold in MLflow: tags, metrics, files and datasets, as they follow from the store."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.data.spec import DataSpec
from suite.errors import StoreError
from suite.jobs.identity import JobSpec
from suite.kinds.base import DataJobSpec
from suite.store.cells import CellRecord
from suite.store.store import Result, Store
from suite.tracking.batch import elapsed, metric_points
from suite.tracking.runs import ENTRY, RESULT, SYNCED

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # MLflow shows its pages of training runs
_TRAINING = {"pretrain", "finetune"}
_DIGEST = 36  # characters of a dataset's digest, at most

Point = tuple[str, float, int, int]  # name, value, milliseconds, step


def digest(content: Result | dict[str, Any]) -> str:
    """20 hex digits that tell whether a file in MLflow is the one of the store."""
    values = content.model_dump(mode="json") if isinstance(content, Result) else content
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:20]


def job_tags(key: str, spec: JobSpec, profile: str) -> dict[str, str]:
    """Tags by which a job's run is found."""
    tags = {"suite.key": key, "suite.kind": spec.kind, "suite.profile": profile}
    if isinstance(spec, DataJobSpec):
        tags |= {"suite.dataset": spec.data.name, "suite.seed": str(spec.seed)}
    return tags


def state_tags(lines: Sequence[dict[str, float]], synced: int | None, result: Result | None) -> dict[str, str]:
    """Tags of a job's run: the last step whose metrics are in MLflow, and the digest of the result."""
    tags = {SYNCED: str(int(lines[-1]["step"]) if lines else synced or 0)}
    return tags if result is None else tags | {RESULT: digest(result)}


def job_points(spec: JobSpec, start: int, lines: Sequence[dict[str, float]], result: Result | None) -> list[Point]:
    """Metrics of a job: those of the given lines of metrics.jsonl, and the final ones at step 0."""
    points = [point for line in lines for point in metric_points(line, start + elapsed(spec, line))]
    if result is not None:
        speed = {"seconds": result.seconds, "images_per_second_mean": result.images_per_second}
        points += metric_points({"step": 0, **_final(result), **speed}, start)
    return points


def job_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """(file, folder among the run's files) of a finished job."""
    for name in ("job.yaml", "env.json", "log.txt", "result.json", "metrics.jsonl"):
        if (folder / name).is_file():
            yield folder / name, ""
    for path in sorted((folder / "checkpoint").glob("*.safetensors")):
        yield path, "checkpoint"


def cell_name(entry: CellRecord) -> str:
    """Name of a cell: the value of the tag `suite.cell` of its run."""
    return f"{entry.profile}:{entry.id}"


def cell_tags(entry: CellRecord) -> dict[str, str]:
    """Tags by which a cell's run is found."""
    fields = ("row", "method", "dataset", "seed", "profile")
    tags = {"suite.cell": cell_name(entry), "suite.kind": "cell"}
    return tags | {f"suite.{field}": str(getattr(entry, field)) for field in fields}


def entry_tags(entry: CellRecord, jobs: str, content: dict[str, Any]) -> dict[str, str]:
    """Tags of a cell's run: run ids and keys of its jobs, and the digest of its record."""
    return {"suite.jobs": jobs, "suite.job_keys": ",".join(entry.jobs), ENTRY: digest(content)}


def cell_points(store: Store, entry: CellRecord, start: int) -> list[Point]:
    """Final metrics of the jobs that measured a cell."""
    final: dict[str, float] = {}
    for kind, key in entry.measured.items():
        result = store.result(key)
        for name, value in ({} if result is None else result.metrics).items():
            # Two protocols may have a metric of one name: the first, fine-tuning where there is any, keeps it.
            final[f"final.{name}" if f"final.{name}" not in final else f"final.{kind}.{name}"] = value
    return metric_points({"step": 0, **final}, start)


def parent_tag(parent: str) -> dict[str, str]:
    """The tag by which MLflow shows a job's run below the run `parent`, that of the first cell that uses the job."""
    return {"mlflow.parentRunId": parent}


def source_tags(folder: Path | None = None) -> dict[str, str]:
    """MLflow's tags of the program and its commit.

    folder: of the job, whose env.json names the commit; None: without a commit.
    """
    tags = {"mlflow.source.name": _program(), "mlflow.source.type": "LOCAL"}
    described = "" if folder is None else _commit(folder / "env.json")
    if (commit := re.fullmatch(r"(?:.*-g)?([0-9a-f]{7,40})(-dirty)?", described)) is not None:
        tags |= {"mlflow.source.git.commit": commit[1], "mlflow.source.git.dirty": str(bool(commit[2])).lower()}
    return tags


def dataset_inputs(store: Store, keys: Iterable[str]) -> list[DatasetInput]:
    """The datasets that jobs read, by name and fingerprint, each once; no image of them. Jobs that have not started or
    are damaged are left out.

    The context of a dataset is ``training`` where one of the jobs trains on it, else ``evaluation``.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    contexts: dict[DataSpec, str] = {}
    for key in keys:
        with suppress(StoreError):
            spec = store.spec(key)
            if not isinstance(spec, DataJobSpec):
                continue
            context = "training" if spec.kind in _TRAINING else contexts.get(spec.data, "evaluation")
            contexts[spec.data] = context
    return [
        DatasetInput(
            Dataset(
                name=data.name,
                digest=data.fingerprint[:_DIGEST],
                source_type="suite",
                source=json.dumps({"name": data.name, "fingerprint": data.fingerprint}),
                profile=json.dumps({"short side of the decoded images, px": data.store_size}),
            ),
            [InputTag("mlflow.data.context", context)],
        )
        for data, context in contexts.items()
    ]


@cache
def _program() -> str:
    """Name and version; in a checkout that is not installed the name alone."""
    try:
        return f"suite {metadata.version('fgssl-suite')}"
    except metadata.PackageNotFoundError:
        return "suite"


def _commit(environment: Path) -> str:
    try:
        return str(json.loads(environment.read_text("utf-8")).get("commit") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _final(result: Result) -> dict[str, float]:
    return {f"final.{name}": value for name, value in result.metrics.items()}
