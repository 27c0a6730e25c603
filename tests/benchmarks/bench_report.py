"""Time of `suite report` on a store of made-up results, tables only, beside `suite --help`.

python tests/benchmarks/bench_report.py [--results 1000] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "analysis"))

from made_store import fill

from suite.grid.cells import Selection
from suite.workspace import Workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=1000, help="cells with a number, in steps of 40")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    options = parser.parse_args()
    os.fsync = lambda _: None  # type: ignore[assignment]  # while filling: nothing of this has to last
    suite = [sys.executable, "-c", "from suite.cli import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        planned = fill(runs, "paper_table1", Selection(seeds=tuple(range(options.results // 40))))
        jobs = len({job.key for item in planned for job in item.jobs})
        command = [*suite, "report", "--grid", "paper_table1", "--runs", str(runs), "--no-figures"]
        if options.profile:
            from analysis.report import write_report

            with cProfile.Profile() as profiler:
                write_report(Workspace(runs, runs), "paper_table1", None, runs / "report", None)
            pstats.Stats(profiler).sort_stats("cumulative").print_stats(25)
        times = {}
        for name, one in {"help": [*suite, "--help"], "report": command}.items():
            began = time.perf_counter()
            subprocess.run(one, check=True, capture_output=True)
            times[name] = time.perf_counter() - began
        what = f"`suite report`, {len(planned):,} results of {jobs:,} jobs, tables only"
        record("report", what, f"{times['report']:.1f} s", ("analysis",))
        print(
            f"suite report, {len(planned)} results of {jobs} jobs: {times['report']:.2f} s, "
            f"{times['report'] / times['help']:.1f} x suite --help"
        )


if __name__ == "__main__":
    main()
