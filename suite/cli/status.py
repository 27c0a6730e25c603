"""`suite status` and `suite cancel`: the active runs of a store, seen from any shell or machine that shares it."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from suite.cli import options
from suite.errors import StoreError
from suite.text import duration

if TYPE_CHECKING:
    from suite.execute.engine import Queue, QueuedJob
    from suite.store.store import Store
    from suite.tracking.studies import RecordedStudy

_WORTH_A_LINE = {"running", "queued", "failed", "interrupted"}


def status(
    runs: options.Runs = None,
    all_: Annotated[bool, typer.Option("--all", help="also list finished jobs and jobs that never ran")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """Show active runs, failed jobs and totals per grid."""
    from suite.store.active import active_runs
    from suite.store.ledger import read_cells
    from suite.tracking.studies import read_studies
    from suite.workspace import Workspace

    store = Workspace.of(None, runs).store
    entries, studies = read_cells(store.root), read_studies(store.root)
    submitted, silences = _submitted(store)
    queued = {key: (name, job) for name, _, jobs in submitted for key, job in jobs.items()}
    keys = [key for entry in entries for key in entry.jobs]
    keys += [key for study in studies for trial in study.trials for key in trial["jobs"] or ()]
    jobs = {key: _job(store, key, queued.get(key)) for key in dict.fromkeys(keys)}
    active = active_runs(store.root)
    if json_:
        going = [
            {"host": run.owner.host, "process": run.owner.process, **run.facts, "phase": run.phase} for run in active
        ]
        tuning = {study.name: Counter(trial["state"] for trial in study.trials) for study in studies}
        print(json.dumps({"runs": going, "jobs": list(jobs.values()), "studies": tuning}, indent=2))
        return
    for run in active:
        since = duration(time.time() - float(run.facts["started"]))
        stopping = ", asked to stop" if run.asked_to_stop else ""
        size = f", {len(run.facts['jobs'])} jobs" if run.facts["jobs"] else ""  # a study adds jobs while it runs
        phase = f", {run.phase}" if run.phase else ""
        print(
            f"run of {run.facts['grid']} ({run.facts['profile']}){size}, for {since}, "
            f"process {run.owner.process} on {run.owner.host}{phase}{stopping}"
        )
    for silence in silences:
        print(silence)
    for job in jobs.values():
        if all_ or job["state"] in _WORTH_A_LINE:
            print(_line(job))
            if job["state"] == "failed":
                said = [job["error"], *job["log"][-3:], f"more in {store.folder(job['key']) / 'log.txt'}"]
                print("\n".join(f"            {line}" for line in said))
    for name in dict.fromkeys((entry.grid, entry.profile) for entry in entries):
        cells = [entry for entry in entries if (entry.grid, entry.profile) == name]
        complete = sum(all(jobs[key]["state"] == "done" for key in entry.jobs) for entry in cells)
        states = Counter(jobs[key]["state"] for key in {key for entry in cells for key in entry.jobs})
        text = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        print(f"{name[0]} ({name[1]}): {complete} of {len(cells)} cells complete; jobs: {text}")
    for study in studies:
        print(_study_line(study))
    if not entries and not studies:
        print("this store has no runs yet. Start one: suite run --grid NAME")


def cancel(
    runs: options.Runs = None,
    wait: Annotated[float, typer.Option("--wait", min=0, help="seconds to wait until the runs have ended")] = 60.0,
) -> None:
    """Stop the active runs; their jobs save a checkpoint first.

    The same as the first Ctrl-C in the shell of the run. Jobs of this store in the queue of Slurm are cancelled too;
    those that are running save a checkpoint.
    """
    from suite.store.active import POLL_SECONDS, active_runs
    from suite.store.claim import CLAIM_POLL_SECONDS
    from suite.workspace import Workspace

    store = Workspace.of(None, runs).store
    active = active_runs(store.root)
    for run in active:
        run.ask_to_stop()
    submitted, silences = _submitted(store)
    if not active and not submitted and not silences:
        print("no active run.")
        return
    for _, queue, jobs in submitted:
        queue.cancel(list(jobs.values()))
    deadline = time.monotonic() + wait
    going = active
    left = [dict(jobs) for _, _, jobs in submitted]
    while (going or any(left)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS if any(left) else CLAIM_POLL_SECONDS)
        going = [run for run in going if run.alive]
        left = [_not_ended(queue, rest) if rest else rest for (_, queue, _), rest in zip(submitted, left, strict=True)]
    if active:
        print(f"{len(active) - len(going)} of {len(active)} runs stopped; ", end="")
    for (_, queue, jobs), rest in zip(submitted, left, strict=True):
        print(f"{len(jobs) - len(rest)} of {len(jobs)} {queue.title} jobs ended; ", end="")
    if active or submitted:
        print("run the same `suite run` command again to resume.")
    for run in going:
        print(f"still saving: process {run.owner.process} on {run.owner.host}")
    for (_, queue, _), rest in zip(submitted, left, strict=True):
        for job in rest.values():
            print(f"not ended yet: {queue.title} job {job.id}, {job.name}: {job.state}")
    for silence in silences:
        print(f"{silence}. Nothing was cancelled there: run `suite cancel` again.")
    left_over = going or any(left) or silences
    raise typer.Exit(1 if left_over else 0)


def _submitted(store: Store) -> tuple[list[tuple[str, Queue, dict[str, QueuedJob]]], list[str]]:
    """Name, queue and jobs of every engine that has any; and a line for each queue that does not answer."""
    from suite.execute.engine import QueueSilent
    from suite.execute.engines import queues

    submitted, silences = [], []
    for name, queue in queues(store):
        try:
            jobs = queue.jobs()
        except QueueSilent as error:
            silences.append(
                f"{queue.submitted()} jobs were submitted to {queue.title}; their state is unknown: {error}"
            )
        else:
            submitted += [(name, queue, jobs)] if jobs else []
    return submitted, silences


def _not_ended(queue: Queue, rest: dict[str, QueuedJob]) -> dict[str, QueuedJob]:
    """The jobs of `rest` that are still queued; all of them if the queue does not answer."""
    from suite.execute.engine import QueueSilent

    try:
        queued = queue.jobs()
    except QueueSilent:
        return rest
    return {key: job for key, job in queued.items() if key in rest}


def _job(store: Store, key: str, queued: tuple[str, QueuedJob] | None) -> dict[str, Any]:
    """State of one job: its progress, where it runs or waits, or why it failed."""
    from suite.execute.display import JobProgress
    from suite.locks import read_owner

    state = store.status(key)
    answer: dict[str, Any] = {"key": key, "state": state, "name": ""}
    try:
        result = store.result(key) if state == "done" else None  # its JSON is read ten times as fast as job.yaml
        answer["name"] = result.name if result is not None else "" if state == "new" else store.name(key)
        if state in {"running", "interrupted"} and (lines := store.metrics(key)):
            progress = JobProgress.of(store.spec(key), lines[-1])
            answer["progress"] = None if progress is None else progress.columns
    except StoreError:  # the file is written again when the job runs again
        answer["name"] = "(its job.yaml is damaged)"
    if state == "running" and (owner := read_owner(store.folder(key) / "claim.json")) is not None:
        answer["host"], answer["process"] = owner.host, owner.process
    if queued is not None:
        engine, waiting = queued
        answer |= {"name": waiting.name, engine: waiting.id, f"{engine}_state": waiting.state}
        answer["queue"] = f"{engine.capitalize()} job {waiting.id}: {waiting.state}"
        answer["state"] = state if state == "running" else "queued"
    if state == "failed" and (failure := store.failure(key)) is not None:
        answer |= {"error": failure.error, "log": failure.log, "traceback": failure.traceback}
    return answer


def _study_line(study: RecordedStudy) -> str:
    states = Counter(trial["state"] for trial in study.trials)
    said = [f"{count} {state}" for state, count in sorted(states.items())]
    if values := [trial["value"] for trial in study.trials if trial["state"] == "complete"]:
        said.append(f"best {study.facts['metric']} {max(values):.2f}")
    return f"study {study.name} ({study.facts['grid']}, {study.facts['profile']}): trials: {', '.join(said)}"


def _line(job: dict[str, Any]) -> str:
    line = f"{job['state']:12}{job['key']}  {job['name']:40}"
    if job.get("progress"):
        epoch, loss, speed, left = job["progress"]
        line += f"epoch {epoch}, loss {loss}, {speed.removesuffix('/s')} images/s, {left} left"
    if "host" in job:
        line += f" on {job['host']}"
    if "queue" in job:
        line += f"  {job['queue']}"
    return line.rstrip()
