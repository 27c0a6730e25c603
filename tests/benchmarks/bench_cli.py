"""Time of `suite --help`, and of planning a grid of 10,000 cells, beside a bare `python -c pass`.

python tests/benchmarks/bench_cli.py [--cells 10000]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record

from suite.data.synthetic.spec import Counts, SyntheticSpec
from suite.data.synthetic.write import write_synthetic


def seconds(command: list[str], repeats: int) -> float:
    """Median wall-clock time of a command."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    suite = [sys.executable, "-c", "from suite.cli import main; main()"]
    python = seconds([sys.executable, "-c", "pass"], options.repeats)
    shown = seconds([*suite, "--help"], options.repeats)
    record("help", "`suite --help`, median", f"{shown:.2f} s, {shown / python:.1f} x an empty Python", ("suite/cli",))
    print(f"suite --help: {shown:.3f} s, {shown / python:.1f} x an empty python ({python:.3f} s)")

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        counts = Counts(classes=2, train=2, test=1)
        write_synthetic(data, SyntheticSpec(short_side=32, sets=("cub",), cub=counts), workers=1)
        methods = ["--method", "random", "--method", "byol"]
        place = ["--data", str(data), "--runs", str(Path(folder) / "runs"), "--dataset", "cub", "--profile", "small"]
        times = []
        for cells in (options.cells // 100, options.cells // 10, options.cells):
            seeds = ",".join(str(seed) for seed in range(cells // 2))
            command = [*suite, "plan", "--grid", "paper_table1", *methods, *place, "--seeds", seeds]
            planned = seconds(command, 3)
            times.append(f"{cells:,} cells: {planned:.2f} s")
            print(f"suite plan, {cells} cells: {planned:.2f} s, {planned / shown:.1f} x suite --help")
        record("plan", "`suite plan`", "; ".join(times), ("suite/cli", "suite/planning", "suite/grid"))


if __name__ == "__main__":
    main()
