"""`suite run`: planned minus done."""

from __future__ import annotations

import json
import logging
import sys
from typing import Annotated

import typer

from suite.cli import options


def run(
    grid: options.Grid,
    profile: options.ProfileName = "paper",
    data: options.Data = None,
    runs: options.Runs = None,
    dataset: options.Datasets = None,
    method: options.Methods = None,
    only: options.Only = None,
    seeds: options.Seeds = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="processes side by side")] = None,
    devices: options.Devices = 1,
    executor: Annotated[str, typer.Option("--executor", help="local or slurm")] = "local",
    set_: options.Set = None,
    stage1: options.Stage1 = None,
    plugin: options.Plugins = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="start nothing more after a failure")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the outcome as JSON")] = False,
) -> None:
    """Train what the grid asks for and has not been trained yet, then rewrite results.csv."""
    from suite.cli.select import Chosen
    from suite.errors import UsageError, unknown
    from suite.execute.run import run_plan

    if executor != "local":
        if executor == "slurm":
            raise UsageError("--executor slurm is not available yet; use --executor local.")
        raise unknown("executor", executor, ["local", "slurm"])
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    chosen = Chosen(grid, profile, data, runs, dataset, method, only, seeds, set_, plugin, stage1)
    outcome = run_plan(chosen.plan(draw=True), chosen.selection.overrides, workers, fail_fast, devices)
    print(json.dumps(outcome.as_dict(), indent=2) if json_ else outcome.text())
    raise typer.Exit(outcome.exit_code)
