"""`suite plan`: what a run would do, and why. Loads neither torch nor mlflow, trains nothing, writes no result."""

from __future__ import annotations

from typing import Annotated

import typer

from suite.cli import options


def plan(
    grid: options.Grid,
    profile: options.ProfileName = "paper",
    data: options.Data = None,
    runs: options.Runs = None,
    dataset: options.Datasets = None,
    method: options.Methods = None,
    only: options.Only = None,
    seeds: options.Seeds = None,
    set_: options.Set = None,
    stage1: options.Stage1 = None,
    plugin: options.Plugins = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="print recipes with the origin of each value")] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the jobs as JSON")] = False,
) -> None:
    """Show every job: cached, or why it has to run; and which data are missing (then the exit code is 2)."""
    import json

    from suite.cli.select import Chosen

    planned = Chosen(grid, profile, data, runs, dataset, method, only, seeds, set_, plugin, stage1).plan(draw=False)
    if resolved:
        for row in {cell.row.name: cell for cell in planned.cells}.values():
            _print_recipe(row.row.name, row.resolved.recipe.model_dump(mode="json"), row.resolved.origins)
            if row.stage1 is not None:
                name = f"{row.row.name}, first stage on {row.row.stage1}"
                _print_recipe(name, row.stage1.recipe.model_dump(mode="json"), row.stage1.origins)
        return
    jobs = planned.explain()
    if json_:
        listing = [{"key": p.job.key, "name": p.job.name, "status": p.status, "reason": p.reason} for p in jobs]
        print(json.dumps({"cells": len(planned.cells), "jobs": listing, "missing": planned.missing}, indent=2))
    else:
        for p in jobs:
            print(f"{p.status:12}{p.job.key}  {p.job.name:40}{p.reason}")
        steps = sum(len(item.jobs) for item in planned.cell_jobs)
        done = sum(p.status == "done" for p in jobs)
        print(f"{len(planned.cells)} cells, {len(jobs)} jobs ({steps - len(jobs)} shared), {done} done.")
        for name, reason in planned.missing.items():
            print(f"missing {name}: {reason}")
        if planned.missing and planned.profile.synthetic is not None:
            print("This profile's data are drawn by `suite run`, or now by: suite data synth")
    raise typer.Exit(2 if planned.missing and planned.profile.synthetic is None else 0)


def _print_recipe(row: str, values: dict[str, object], origins: object) -> None:
    """YAML with the origin of each value as a comment."""
    print(f"# row {row}")
    _print_level(values, dict(origins), "", 0)  # type: ignore[call-overload]


def _print_level(values: dict[str, object], origins: dict[str, str], path: str, depth: int) -> None:
    import json

    for name, value in values.items():
        if isinstance(value, dict):
            print(f"{'  ' * depth}{name}:")
            _print_level(value, origins, f"{path}{name}.", depth + 1)
        else:
            print(f"{'  ' * depth}{name}: {json.dumps(value)}  # {origins.get(path + name, 'default')}")
