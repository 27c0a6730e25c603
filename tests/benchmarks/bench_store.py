"""Seconds and memory of `suite status`, `suite report` and `suite sync` on a store of made-up results, while a run is
active.

python tests/benchmarks/bench_store.py [--jobs 10000]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "analysis"))

from made_store import fill

from suite.grid.cells import Selection
from suite.store.active import ActiveRun

_SUITE = [sys.executable, "-c", "from suite.cli import main; main()"]


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of one command."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command[3:])} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def filled(runs: Path, jobs: int) -> int:
    """Record cells of paper_table1 until there are at least `jobs` jobs; returns their number."""
    probe = {job.key for item in fill(runs, "paper_table1", Selection(seeds=(0,))) for job in item.jobs}
    seeds = -(-jobs // len(probe))
    planned = fill(runs, "paper_table1", Selection(seeds=tuple(range(seeds))))
    return len({job.key for item in planned for job in item.jobs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs in the store, at least")
    options = parser.parse_args()
    synchronise, os.fsync = os.fsync, lambda _: None  # type: ignore[assignment]  # the made-up store need not last
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        jobs = filled(runs, options.jobs)
        os.fsync = synchronise
        at = ["--runs", str(runs)]
        commands = {
            "status": ["status", *at],
            "report": ["report", "--grid", "paper_table1", "--no-figures", *at],
            "first sync": ["sync", *at],
            "second sync": ["sync", *at],
        }
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        parts = []
        with ActiveRun(runs, grid="paper_table1", profile="small", jobs=[]):
            for name, arguments in commands.items():
                seconds, memory = measured([*_SUITE, *arguments])
                parts.append(f"{name} {seconds:.1f} s, {memory:.0f} MB")
                print(parts[-1], flush=True)
        record(
            "store",
            f"commands on a store of {jobs:,} finished jobs",
            "; ".join(parts),
            ("suite/store", "suite/tracking", "analysis"),
        )
    print(f"{jobs} jobs; memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
