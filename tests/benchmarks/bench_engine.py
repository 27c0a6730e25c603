"""What the engine itself costs: planning and running a grid whose jobs do nothing, at growing numbers of cells.

    python tests/benchmarks/bench_engine.py [CELLS ...]

Per size: seconds of `suite plan`, of `suite run` with two workers, of both again when all is done; milliseconds per
job, of wall clock and of processor time (parent, workers and MLflow together); peak memory of the parent. The jobs go
through everything a real one does but training: claim, files, result, MLflow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from record import record

from suite.data.synthetic.spec import Counts, SyntheticSpec
from suite.data.synthetic.write import write_synthetic
from suite.grid.spec import EXPERIMENTS

# The peak memory of this process alone; what the system counts at its end includes its workers.
MEMORY = "atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))"
SUITE = [sys.executable, "-c", f"import atexit, resource, sys; from suite.cli import main; {MEMORY}; main()"]
COUNTS = Counts(classes=3, train=40, test=4)
SETS = ("cub", "nabirds", "aircraft", "cars")


def timed(command: list[str]) -> tuple[float, float, float]:
    """Seconds of wall clock, of processor time with all workers, and the peak memory in MB of the process itself."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([*SUITE, *command], stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        said.seek(0)
        last = said.read().split()[-1]
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    return seconds, usage.ru_utime + usage.ru_stime, int(last) / 1024


def measure(cells: int, data: Path, profile: Path, runs: Path) -> dict[str, float]:
    """One size: Random on four datasets, a fine-tuning and a probe per cell."""
    seeds = ",".join(str(seed) for seed in range(cells // len(SETS)))
    plugin = Path(__file__).with_name("engine_plugin.py")
    chosen = [
        "--grid", "paper_table1", "--profile", str(profile), "--method", "random", "--seeds", seeds,
        "--runs", str(runs), "--data", str(data), "--plugin", str(plugin),
    ]  # fmt: skip
    plan, plan_cpu, plan_memory = timed(["plan", *chosen])
    run, run_cpu, run_memory = timed(["run", *chosen, "--workers", "2"])
    planned_again, planned_again_cpu, _ = timed(["plan", *chosen])
    again, again_cpu, _ = timed(["run", *chosen, "--workers", "2"])
    jobs = 2 * cells
    return {
        "cells": cells, "jobs": jobs, "plan_s": plan, "plan_cpu_s": plan_cpu, "plan_mb": plan_memory, "run_s": run,
        "run_cpu_s": run_cpu, "run_mb": run_memory,
        "ms_per_job": 1000 * run / jobs, "cpu_ms_per_job": 1000 * run_cpu / jobs,
        "plan_done_s": planned_again, "plan_done_cpu_s": planned_again_cpu, "again_s": again, "again_cpu_s": again_cpu,
    }  # fmt: skip


def record_largest(one: dict[str, float]) -> None:
    """The row of the largest grid."""
    record(
        "largest grid",
        f"{one['cells']:,.0f} cells, {one['jobs']:,.0f} jobs that do nothing, two workers, MLflow",
        f"planned in {one['plan_s']:.1f} s with {one['plan_mb']:.0f} MB; run in {one['run_s']:.0f} s "
        f"({one['ms_per_job']:.1f} ms per job) with {one['run_mb']:.0f} MB; planned and run again when all are done "
        f"in {one['plan_done_s']:.1f} and {one['again_s']:.1f} s",
        ("suite/execute", "suite/planning", "suite/store", "suite/tracking"),
    )


def main() -> None:
    """Print one JSON line per size, and the slope between the last two."""
    sizes = [int(text) for text in sys.argv[1:]] or [100, 1000, 10_000]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_synthetic(data, SyntheticSpec(sets=SETS, cub=COUNTS, nabirds=COUNTS, aircraft=COUNTS, cars=COUNTS), 1)
        recipe = yaml.safe_load((EXPERIMENTS / "profiles" / "demo.yaml").read_text("utf-8"))
        profile = Path(folder) / "trivial.yaml"
        defaults = {**recipe["defaults"], "localisation": None, "background": None}
        profile.write_text(
            yaml.safe_dump({**recipe, "defaults": defaults, "name": "trivial", "synthetic": None}), "utf-8"
        )
        os.environ["SUITE_CACHE"] = str(Path(folder) / "cache")
        for cells in sizes:
            found.append(measure(cells, data, profile, Path(folder) / str(cells)))
            print(json.dumps({name: round(value, 3) for name, value in found[-1].items()}), flush=True)
    record_largest(found[-1])
    if len(found) > 1:
        a, b = found[-2:]
        wall, cpu = (1000 * (b[name] - a[name]) / (b["jobs"] - a["jobs"]) for name in ("run_s", "run_cpu_s"))
        what = f"a further job that does nothing, from {a['jobs']:,.0f} to {b['jobs']:,.0f} jobs"
        record("further job", what, f"{wall:.1f} ms, {cpu:.1f} ms of processor time", ("suite/execute", "suite/store"))
        print(f"per further job: {wall:.1f} ms, of processor time {cpu:.1f} ms")


if __name__ == "__main__":
    main()
