"""How many jobs the paper's three tables are when stages are shared, and when every cell is run alone.

    python tests/benchmarks/bench_sharing.py [PROFILE ...]

Per profile and grid, and for the three together: cells, jobs and hours alone, jobs and hours shared. Needs no data:
the numbers of jobs follow from the grids, the hours from experiments/costs.yaml.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from suite.cli.select import SelectorOptions
from suite.grid.cell_jobs import CellJobs
from suite.planning.costs import Machine
from suite.planning.forecast import Forecast

GRIDS = ("paper_table1", "paper_table2", "paper_table3")


def counted(cells: Iterable[CellJobs], seconds: dict[str, float]) -> dict[str, float]:
    """Jobs and hours of these cells."""
    alone = [job.key for cell in cells for job in cell.jobs]
    shared = dict.fromkeys(alone)
    return {
        "jobs_alone": len(alone), "jobs_shared": len(shared), "share_of_jobs": len(shared) / len(alone),
        "share_of_hours": sum(seconds[key] for key in shared) / sum(seconds[key] for key in alone),
        "gpu_hours_alone": sum(seconds[key] for key in alone) / 3600,
        "gpu_hours_shared": sum(seconds[key] for key in shared) / 3600,
    }  # fmt: skip


def main() -> None:
    """Print one JSON line per grid, then one for all."""
    for profile in sys.argv[1:] or ["paper", "demo"]:
        cells: list[CellJobs] = []
        seconds: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as nothing:
            for grid in GRIDS:
                where = Path(nothing)
                plan = SelectorOptions(grid, profile, where, where / "runs", *[None] * 7).plan(obtain_inputs=False)
                forecast = Forecast(plan, Machine("cuda", workers=1))
                cells += forecast.cells
                seconds |= {key: estimate.seconds for key, estimate in forecast.estimates.items()}
                show(profile, grid, counted(forecast.cells, seconds), len(forecast.cells))
        show(profile, "all three", counted(cells, seconds), len(cells))


def show(profile: str, grid: str, numbers: dict[str, float], cells: int) -> None:
    rounded = {name: round(value, 3) for name, value in numbers.items()}
    print(json.dumps({"profile": profile, "grid": grid, "cells": cells, **rounded}), flush=True)


if __name__ == "__main__":
    main()
