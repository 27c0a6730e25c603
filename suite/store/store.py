"""The result store: one folder per job, `<runs>/<key>/`. The source of truth; everything else is derived from it.

job.yaml       the job's name and spec           env.json     where and with what it ran
metrics.jsonl  one line per epoch                log.txt      its log
result.json    written last: there and readable, it means success
failure.json   why the last attempt failed; never read as a result, deleted by the next success
claim.json     host and process that run it now
checkpoint/    weights (safetensors), and state.pt while the job is not finished
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from suite.atomic import write_json, write_text
from suite.errors import StoreError
from suite.jobs.identity import Job, JobSpec, key_of
from suite.kinds.registry import parse_spec
from suite.redact import redact_all
from suite.store.claim import Claim, is_claimed

# The C implementations are ten times as fast, where PyYAML was built with them.
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Status = Literal["done", "failed", "running", "interrupted", "new"]


class Result(BaseModel):
    """A finished job. Metrics are numbers a table may print; timings stand apart, they differ from run to run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    name: str
    metrics: dict[str, float] = Field(description="final values; top1 in percent")
    counts: dict[str, int] = Field(default_factory=dict, description="n_train, n_test, saliency fallbacks, ...")
    files: dict[str, str] = Field(description="path below checkpoint/ -> SHA-256")
    suspicious: list[str] = Field(default_factory=list, description="why a reader should doubt the metrics")
    seconds: float = Field(description="wall-clock time spent training, over all attempts")
    images_per_second: float


class Failure(BaseModel):
    """Why an attempt failed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    error: str
    kind: Literal["failed", "killed"]
    traceback: str
    log: tuple[str, ...] = Field((), description="last lines of log.txt before the failure")


class Store:
    """Reads and writes `<runs>`. Creating one does not touch the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._done: set[str] = set()

    def started(self) -> set[str]:
        """Keys of all jobs that have a folder, in one look: most jobs of a large plan have none."""
        if not self.root.is_dir():
            return set()
        with os.scandir(self.root) as entries:
            return {entry.name for entry in entries}

    def folder(self, key: str) -> Path:
        """The job's folder, whether or not it exists."""
        return self.root / key

    def checkpoint(self, key: str) -> Path:
        """Folder of the job's weights."""
        return self.folder(key) / "checkpoint"

    def claim(self, key: str) -> Claim:
        """What a process holds while it works on a job; not acquired yet."""
        self.folder(key).mkdir(parents=True, exist_ok=True)
        return Claim(self.folder(key))

    def status(self, key: str) -> Status:
        """State of a job as the disk tells it."""
        folder = self.folder(key)
        if self.done(key):
            return "done"
        if not folder.is_dir():
            return "new"
        if is_claimed(folder):
            return "running"
        if (failure := self.failure(key)) is not None:
            return "failed" if failure.kind == "failed" else "interrupted"
        return "interrupted" if (folder / "job.yaml").is_file() else "new"

    def result(self, key: str) -> Result | None:
        """The result, or None when the job is not finished. A torn or foreign file is none: the job runs again."""
        result, _ = self._read_result(key)
        return result

    def done(self, key: str) -> bool:
        """Whether there is a result. A yes is cached in this object until `invalidate`."""
        if key not in self._done and self.result(key) is not None:
            self._done.add(key)
        return key in self._done

    def _read_result(self, key: str) -> tuple[Result | None, str]:
        """The result, or why the file that is there is none."""
        try:
            with open(f"{self.root}/{key}/result.json", "rb") as file:  # noqa: PTH123  - twice as fast as through Path
                result = Result.model_validate_json(file.read())
        except FileNotFoundError:
            return None, ""
        except ValueError:
            return None, "result.json is damaged"
        return (result, "") if result.key == key else (None, f"result.json belongs to job {result.key}")

    def failure(self, key: str) -> Failure | None:
        """Why the last attempt failed, or why what it left is no result."""
        result, damage = self._read_result(key)
        if result is not None:
            return None
        if damage:
            return Failure(error=f"{damage}; the job runs again", kind="failed", traceback="")
        try:
            return Failure.model_validate_json((self.folder(key) / "failure.json").read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return Failure(error="for an unknown reason: failure.json is damaged", kind="failed", traceback="")

    def spec(self, key: str) -> JobSpec:
        """The job's spec as it was written when the job first started."""
        return parse_spec(self._description(key)["spec"])

    def name(self, key: str) -> str:
        """The job's readable name."""
        return str(self._description(key)["name"])

    def _description(self, key: str) -> dict[str, Any]:
        path = self.folder(key) / "job.yaml"
        try:
            description = yaml.load(path.read_bytes(), Loader=_LOADER)
            if description["key"] == key_of(description["spec"]) == key:
                return dict(description)
        except FileNotFoundError:
            raise StoreError(f"job {key} has never started in {self.root}: {path} does not exist.") from None
        except (yaml.YAMLError, TypeError, KeyError, ValueError):
            pass
        raise StoreError(f"{path} is damaged. Delete {path.parent} and run the grid again to recreate it.")

    def begin(self, job: Job, environment: dict[str, Any]) -> None:
        """Write what is known before training; forget an earlier failure, clear away what a killed attempt left."""
        folder = self.folder(job.key)
        for torn in folder.rglob(".*.tmp"):
            torn.unlink()
        (folder / "result.json").unlink(missing_ok=True)  # a damaged one: the caller found no result
        self.describe(job)
        write_json(folder / "env.json", redact_all(environment))
        self.forget_failure(job.key)

    def describe(self, job: Job) -> None:
        """Write the job's name and spec."""
        description = {"name": job.name, "key": job.key, "spec": job.spec.model_dump(mode="json")}
        write_text(self.folder(job.key) / "job.yaml", yaml.dump(description, Dumper=_DUMPER, sort_keys=False))

    def finish(self, result: Result) -> None:
        """Record success; the training state is no longer needed."""
        folder = self.folder(result.key)
        write_text(folder / "result.json", result.model_dump_json(indent=2) + "\n")
        self.forget_failure(result.key)
        (folder / "checkpoint" / "state.pt").unlink(missing_ok=True)

    def fail(self, key: str, failure: Failure) -> None:
        """Record an attempt's failure. The next run tries again."""
        write_json(self.folder(key) / "failure.json", redact_all(failure.model_dump(mode="json")))

    def forget_failure(self, key: str) -> None:
        """Delete failure.json: a new attempt has been started or submitted."""
        (self.folder(key) / "failure.json").unlink(missing_ok=True)

    def invalidate(self, key: str, why: str) -> None:
        """Set a result aside because files that it names are missing or damaged: the job runs again."""
        self.fail(key, Failure(error=why, kind="failed", traceback=""))
        self._done.discard(key)
        (self.folder(key) / "result.json").replace(self.folder(key) / "distrusted.json")

    def weights(self, key: str, name: str) -> Path:
        """A weight file of a finished job, its hash checked.

        Raises:
            StoreError: not finished, file missing or changed.
        """
        result = self.result(key)
        if result is None:
            raise StoreError(f"job {key} is not finished, so it has no {name}.")
        path = self.checkpoint(key) / name
        if name not in result.files or not path.is_file():
            raise StoreError(f"{path} is missing. The next `suite run` recreates it if a job needs it.")
        digest = sha256(path)
        if digest != result.files[name]:
            raise StoreError(
                f"{path} has SHA-256 {digest[:16]}..., but {result.files[name][:16]}... was recorded. "
                "The next `suite run` recreates it if a job needs it."
            )
        return path

    def metrics(self, key: str) -> list[dict[str, float]]:
        """Lines of metrics.jsonl; an unfinished last line, or one that cannot be read, is left out."""
        return read_metrics(self.folder(key) / "metrics.jsonl")

    def log_tail(self, key: str, lines: int = 10) -> tuple[str, ...]:
        """The last lines of log.txt."""
        try:
            with (self.folder(key) / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - 200 * lines))
                return tuple(file.read().decode("utf-8", errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Lines of a metrics.jsonl, as `Store.metrics`."""
    lines = []
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else []:
        with suppress(ValueError):
            values = json.loads(line)
            if line.endswith(b"\n") and isinstance(values, dict) and "step" in values:
                lines.append(values)
    return lines


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
