"""Runs jobs in processes that kill themselves with SIGKILL after so many steps. One line of JSON per process.

    python tests/training/kill_run.py PROFILE DATA

In: {"grid", "cell", "set", "runs": folder, "job": key, "loaders": N, "die": steps} or "stop" in place of "die", or
neither; out: its exit code. Torch is loaded once, and every process is forked before it has computed anything.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import suite.data.decoded.images
import suite.training.finetune
import suite.training.pretrain  # noqa: F401  - loaded before the processes fork
from suite.cli.select import SelectorOptions
from suite.execute.context import Device, JobContext, RunPaths
from suite.execute.prepare import prepare
from suite.execute.worker import run_job
from suite.planning.plan import Plan


def leg(plan: Plan, key: str, loaders: int, die: int | None, stop: int | None) -> None:
    """One life of a job's process; every step is checkpointed."""
    prepare(plan.jobs, plan.datasets, plan.data_root, plan.workspace.cache, lambda *_: None)
    polls = 0

    def should_stop() -> bool:
        nonlocal polls
        polls += 1
        if polls == die:
            os.kill(os.getpid(), signal.SIGKILL)
        return polls == stop

    (job,) = [job for job in plan.jobs if job.key == key]
    device = Device("cpu", checkpoint_minutes=-1, loaders=loaders)
    end = run_job(job, JobContext(RunPaths(plan.workspace.runs, plan.workspace.cache), device, should_stop))
    if end.outcome == "failed":
        raise SystemExit(end.error)


def main() -> None:
    profile, data = sys.argv[1:]
    for line in sys.stdin:
        wanted = json.loads(line)
        runs = Path(wanted["runs"])
        chosen = SelectorOptions(
            wanted["grid"], profile, Path(data), runs, ["cub"], None, wanted["cell"], None, wanted["set"]
        )
        plan = chosen.plan(obtain_inputs=False)
        sys.stdout.flush()
        child = os.fork()
        if not child:
            leg(plan, wanted["job"], wanted.get("loaders", 0), wanted.get("die"), wanted.get("stop"))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
