"""`suite run`: train the planned jobs that have no result yet."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from suite.cli import options

if TYPE_CHECKING:
    from suite.execute.engine import Engine


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
    executor: Annotated[str, typer.Option("--executor", help="local or slurm")] = "local",
    site: Annotated[
        str | None, typer.Option("--site", help="YAML file that describes the Slurm cluster [default: $SUITE_SITE]")
    ] = None,
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
    from suite.cli.select import Chosen, warn_without_gpu
    from suite.errors import UsageError
    from suite.execute.run import run_plan
    from suite.planning.forecast import Forecast

    engine = _engine(executor, site, detach, workers, devices)
    if detach and fail_fast:
        raise UsageError("--fail-fast needs a run that waits; leave --detach out.")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    chosen = Chosen(grid, profile, data, runs, dataset, method, only, seeds, set_, plugin, stage1)
    plan = chosen.plan(draw=True)
    warn_without_gpu(Forecast(plan, engine.machine))
    outcome = run_plan(plan, chosen.selection.overrides, engine, fail_fast)
    print(json.dumps(outcome.as_dict(), indent=2) if json_ else outcome.text())
    raise typer.Exit(outcome.exit_code)


def _engine(executor: str, site: str | None, detach: bool, workers: int | None, devices: int) -> Engine:
    """The engine that runs the jobs: this machine, or a Slurm cluster."""
    from suite.errors import UsageError, unknown
    from suite.execute.local.executor import Here

    if executor not in {"local", "slurm"}:
        raise unknown("executor", executor, ["local", "slurm"])
    if executor == "local":
        if site is not None or detach:
            raise UsageError("--site and --detach are for --executor slurm.")
        return Here(workers, devices)
    if devices != 1:
        raise UsageError(
            "with --executor slurm the site file says on how many devices a job is trained, not --devices."
        )
    from suite.execute.slurm.executor import Cluster
    from suite.execute.slurm.queue import require_slurm
    from suite.execute.slurm.site import load_site

    cluster = Cluster(load_site(site), detach, workers)
    require_slurm()
    return cluster
