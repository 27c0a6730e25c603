"""What the engine adds to the training it runs, per job of a small demo grid.

    python tests/benchmarks/bench_overhead.py [FIELD=VALUE ...]

Inside a job: claim, files, environment, networks to the device, hashes, result, beside reading data and training.
Around the jobs: starting the command and a worker (importing torch), preparing data, MLflow, the results file; once per
run, whatever the number of jobs. Data are drawn and decoded before the clock starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record

SUITE = [sys.executable, "-c", "from suite.cli import main; main()"]
PLUGIN = Path(__file__).with_name("overhead_plugin.py")


def main() -> None:
    """Print JSON."""
    chosen = ["--grid", "paper_table1", "--profile", "demo", "--plugin", str(PLUGIN), "--workers", "1"]
    chosen += ["--dataset", "cub", "--method", "random", "--method", "byol", "--method", "byol_cvsa"]
    chosen += [part for change in sys.argv[1:] for part in ("--set", change)]
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "lines"
        environment = {**os.environ, "SUITE_CACHE": f"{folder}/cache", "OVERHEAD_FILE": str(lines)}
        warm = [*chosen, "--set", "pretrain.epochs=1", "--set", "finetune.epochs=1"]
        run(warm, f"{folder}/warm", environment)
        lines.unlink()
        wall, cpu = run(chosen, f"{folder}/runs", environment)
        jobs = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    total = {name: sum(job[name] for job in jobs) for name in jobs[0]}
    report = {
        "jobs": len(jobs), "run_s": wall, "run_cpu_s": cpu, **total,
        "engine_ms_per_job": 1000 * (total["job_s"] - total["training_s"]) / len(jobs),
        "engine_cpu_ms_per_job": 1000 * (total["job_cpu_s"] - total["training_cpu_s"]) / len(jobs),
        "engine_share_of_jobs": 1 - total["training_s"] / total["job_s"],
        "once_per_run_s": wall - total["job_s"], "once_per_run_cpu_s": cpu - total["job_cpu_s"],
    }  # fmt: skip
    share, once = 100 * report["engine_share_of_jobs"], report["once_per_run_s"]
    text = (
        f"{report['engine_ms_per_job']:.0f} ms per job, {share:.0f} % of the jobs' time; {once:.1f} s per run to start"
    )
    record("overhead", f"engine beside training, {len(jobs)} demo jobs", text, ("suite/execute", "suite/store"))
    print(json.dumps({name: round(value, 3) for name, value in report.items()}, indent=2))


def run(arguments: list[str], runs: str, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds of wall clock and of processor time, workers included."""
    began = time.monotonic()
    command = [*SUITE, "run", *arguments, "--runs", runs]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
