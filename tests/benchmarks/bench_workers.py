"""Two workers of one thread each, or one of two? The same jobs both ways, in turns.

    python tests/benchmarks/bench_workers.py [REPEATS [FIELD=VALUE ...]]

Prints per repeat the seconds of both, start-up included, and their ratio; then the median ratio. `suite run` takes one
worker per core on a CPU because of it (default_workers). Give it an idle machine of two cores.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench_overhead import run
from record import record


def main() -> None:
    """Print lines."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    chosen = [
        "--grid",
        "paper_table1",
        "--profile",
        "demo",
        "--dataset",
        "cub",
        "--method",
        "byol",
        "--method",
        "simclr",
    ]
    chosen += [part for change in sys.argv[2:] for part in ("--set", change)]
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        environment |= {"SUITE_CACHE": f"{folder}/cache", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
        run([*chosen, "--workers", "2", "--set", "pretrain.epochs=1"], f"{folder}/warm", environment)
        for repeat in range(repeats):
            seconds = {
                workers: run(
                    [*chosen, "--workers", str(workers)], str(Path(folder) / f"{repeat}-{workers}"), environment
                )[0]
                for workers in ((2, 1), (1, 2))[repeat % 2]
            }
            ratios.append(seconds[1] / seconds[2])
            print(
                f"two workers {seconds[2]:.1f} s, one with two threads {seconds[1]:.1f} s: {ratios[-1]:.2f}", flush=True
            )
    what = "two workers of one thread beside one of two, demo jobs"
    record("workers", what, f"{statistics.median(ratios):.2f} times as fast", ("suite/execute/local",))
    print(f"two workers are {statistics.median(ratios):.2f} times as fast (median of {repeats})")


if __name__ == "__main__":
    main()
