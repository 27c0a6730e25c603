"""Which Slurm job works, or will work, on which job of the store: `<runs>/slurm/<key>.json`.

A record is written when the job is submitted and removed when it has ended, by whichever process of any shell notices
first. So a second run does not submit again what waits in the queue, and `suite cancel` finds it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from suite.atomic import write_json
from suite.execute.slurm.queue import State, states
from suite.jobs.identity import Job
from suite.kinds.registry import parse_spec
from suite.store.store import Failure, Store

_HINTS = {  # for states in which the job may not have had time to record a reason
    "OUT_OF_MEMORY": "raise mem_gb in the site file",
    "TIMEOUT": "it did not save and requeue in time: raise grace_seconds or time.min_minutes in the site file",
    "NODE_FAIL": "the node went down; run again",
    "CANCELLED": "by scancel",
    "FORGOTTEN": "it left the queue without a result",
}


@dataclass(frozen=True)
class SubmittedJob:
    """A job of the store as it was submitted to Slurm."""

    key: str
    name: str
    slurm: str  # "12", or "12_3" for a task of an array
    log: str  # what the process printed
    submitted: float  # seconds since the epoch
    spec: dict[str, Any]


def folder(store: Store) -> Path:
    """The folder of the records."""
    return store.root / "slurm"


def write_record(store: Store, record: SubmittedJob) -> None:
    """Record a submission, and forget the failure of an earlier attempt."""
    store.forget_failure(record.key)
    write_json(folder(store) / f"{record.key}.json", asdict(record))


def read_records(store: Store) -> dict[str, SubmittedJob]:
    """All of them by key, in the order of submission."""
    records = []
    for path in folder(store).glob("*.json"):
        try:
            records.append(SubmittedJob(**json.loads(path.read_text("utf-8"))))
        except FileNotFoundError:  # ended just now
            continue
    return {record.key: record for record in sorted(records, key=lambda record: (record.submitted, record.slurm))}


def in_queue(store: Store, keys: Collection[str] | None = None) -> dict[str, tuple[SubmittedJob, State]]:
    """The jobs of the store, or of `keys`, that Slurm has not finished. Records of ended jobs are settled and removed.

    Raises:
        QueueSilent: Slurm does not answer, and something is recorded.
    """
    records = {key: record for key, record in read_records(store).items() if keys is None or key in keys}
    answer = states(record.slurm for record in records.values())
    queued = {}
    for key, record in records.items():
        if answer[record.slurm].ended or store.result(key) is not None:
            settle(store, record, answer[record.slurm])
        else:
            queued[key] = record, answer[record.slurm]
    return queued


def forget(store: Store, key: str) -> None:
    """Remove a record whose job has ended, or will never start."""
    (folder(store) / f"{key}.json").unlink(missing_ok=True)


def settle(store: Store, record: SubmittedJob, state: State) -> str:
    """Remove an ended job's record, and return why it has no result; empty where it has one.

    If the job itself recorded no reason, Slurm's state is recorded. Only FAILED counts as failed: after any other state
    another attempt may succeed, and it resumes from the checkpoint.
    """
    forget(store, record.key)
    if store.result(record.key) is not None:
        return ""
    before = store.failure(record.key)
    if before is not None and (before.kind == "failed" or state.name not in _HINTS):
        return before.error
    error = _reason(record, state)
    if state.name != "CANCELLED" or (before is None and store.status(record.key) != "new"):
        with suppress(ValueError):  # a spec that today's code no longer reads
            store.describe(Job(parse_spec(record.spec), record.name))
            kind: Literal["failed", "killed"] = "failed" if state.name == "FAILED" else "killed"
            store.fail(record.key, Failure(error=error, kind=kind, traceback=""))
    return error


def _reason(record: SubmittedJob, state: State) -> str:
    """Slurm's state, with a remedy or the last line that the process printed."""
    hint = _HINTS.get(state.name) or _last_line(Path(record.log)) or f"nothing in {record.log}"
    return f"Slurm ended job {record.slurm}: {state.name}, {hint}"


def _last_line(path: Path) -> str:
    """Of a log: the exception, or what srun says of a process that had no time for one ("task 0: Killed")."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    from_job = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
    ends = [line for line in lines if line.startswith("srun: error:") and ": task " in line]
    if ends and (not from_job or "Exited with exit code" not in ends[-1]):
        return ends[-1]
    return from_job[-1] if from_job else ""
