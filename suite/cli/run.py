"""`suite run`: train the planned jobs that have no result yet."""

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
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="jobs trained at the same time; with Slurm: tasks of one array"),
    ] = None,
    devices: options.Devices = 1,
    loaders: options.Loaders = None,
    executor: options.Executor = "local",
    site: options.Site = None,
    address: options.Address = None,
    gpus_per_job: options.GpusPerJob = None,
    detach: Annotated[
        bool, typer.Option("--detach", "--no-wait", help="with Slurm: submit the jobs and return at once")
    ] = False,
    set_: options.Set = None,
    stage1: options.Stage1 = None,
    plugin: options.Plugins = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="start no further job after a failure")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the outcome as JSON")] = False,
) -> None:
    """Train every planned job that has no result yet.

    Run the same command again after an interruption: it resumes. Rewrites results.csv at the end.
    """
    from suite.cli.select import SelectorOptions, warn_before_training
    from suite.errors import UsageError
    from suite.execute.engine import EngineOptions
    from suite.execute.engines import create_engine
    from suite.execute.run import run_plan
    from suite.planning.forecast import Forecast

    engine = create_engine(executor, EngineOptions(workers, devices, site, detach, address, gpus_per_job, loaders))
    if detach and fail_fast:
        raise UsageError("--fail-fast needs a run that waits; leave --detach out.")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    selectors = SelectorOptions(grid, profile, data, runs, dataset, method, only, seeds, set_, plugin, stage1)
    plan = selectors.plan(obtain_inputs=True)
    warn_before_training(Forecast(plan, engine.machine))
    outcome = run_plan(plan, selectors.selection.overrides, engine, fail_fast)
    print(json.dumps(outcome.as_dict(), indent=2) if json_ else outcome.text())
    raise typer.Exit(outcome.exit_code)
