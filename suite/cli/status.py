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
    from suite.execute.slurm.queue import State
    from suite.execute.slurm.records import Record
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
    queue, silence = _queue(store)
    keys = [key for entry in entries for key in entry.jobs]
    keys += [key for study in studies for trial in study.trials for key in trial["jobs"] or ()]
    jobs = {key: _job(store, key, queue.get(key)) for key in dict.fromkeys(keys)}
    active = active_runs(store.root)
    if json_:
        going = [
            {"host": run.holder.host, "process": run.holder.process, **run.facts, "phase": run.phase} for run in active
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
            f"process {run.holder.process} on {run.holder.host}{phase}{stopping}"
        )
    if silence:
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

    The same as the first Ctrl-C in the shell of the run. Slurm jobs of the store are cancelled; they save as well.
    """
    from suite.execute.slurm.queue import cancel as end
    from suite.execute.slurm.records import in_queue
    from suite.store.active import active_runs
    from suite.workspace import Workspace

    store = Workspace.of(None, runs).store
    active = active_runs(store.root)
    for run in active:
        run.ask_to_stop()
    queued = in_queue(store)
    if not active and not queued:
        print("no active run.")
        return
    end(record.slurm for record, _ in queued.values())
    deadline = time.monotonic() + wait
    going, left = active, queued
    while (going or left) and time.monotonic() < deadline:
        time.sleep(1.0 if left else 0.2)
        going = [run for run in going if run.alive]
        left = in_queue(store, queued) if left else left
    if active:
        print(f"{len(active) - len(going)} of {len(active)} runs stopped; ", end="")
    if queued:
        print(f"{len(queued) - len(left)} of {len(queued)} Slurm jobs ended; ", end="")
    print("run the same `suite run` command again to resume.")
    for run in going:
        print(f"still saving: process {run.holder.process} on {run.holder.host}")
    for record, state in left.values():
        print(f"not ended yet: Slurm job {record.slurm}, {record.name}: {state.text}")
    raise typer.Exit(1 if going or left else 0)


def _queue(store: Store) -> tuple[dict[str, tuple[Record, State]], str]:
    """The store's jobs in Slurm's queue; and, if Slurm does not answer, a line that says so."""
    from suite.execute.slurm.queue import QueueSilent
    from suite.execute.slurm.records import in_queue, read_records

    try:
        return in_queue(store), ""
    except QueueSilent as error:
        return {}, f"{len(read_records(store))} jobs were submitted to Slurm; their state is unknown: {error}"


def _job(store: Store, key: str, queued: tuple[Record, State] | None) -> dict[str, Any]:
    """State of one job: its progress, where it runs or waits, or why it failed."""
    from suite.execute.display import Progress
    from suite.store.claim import read_holder

    state = store.status(key)
    found: dict[str, Any] = {"key": key, "state": state, "name": ""}
    try:
        found["name"] = "" if state == "new" else store.name(key)
        if state in {"running", "interrupted"} and (lines := store.metrics(key)):
            progress = Progress.of(store.spec(key), lines[-1])
            found["progress"] = None if progress is None else progress.columns
    except StoreError:  # the file is written again when the job runs again
        found["name"] = "(its job.yaml is damaged)"
    if state == "running" and (holder := read_holder(store.folder(key) / "claim.json")) is not None:
        found["host"], found["process"] = holder.host, holder.process
    if queued is not None:
        record, at = queued
        found |= {"name": record.name, "slurm": record.slurm, "slurm_state": at.text}
        found["state"] = state if state == "running" else "queued"
    if state == "failed" and (failure := store.failure(key)) is not None:
        found |= {"error": failure.error, "log": failure.log, "traceback": failure.traceback}
    return found


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
    if "slurm" in job:
        line += f"  Slurm job {job['slurm']}: {job['slurm_state']}"
    return line.rstrip()
