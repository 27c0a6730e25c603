"""`suite plan`: the jobs of a run and the reason for each. Loads neither torch nor mlflow; trains nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from suite.cli import options
from suite.text import duration

if TYPE_CHECKING:
    from suite.planning.forecast import Forecast
    from suite.planning.plan import Plan


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
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="jobs trained at the same time, for the estimate")
    ] = None,
    devices: options.Devices = 1,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="print the recipes with the origin of every value")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the jobs as JSON")] = False,
) -> None:
    """List the jobs of a run with reasons and expected hours.

    Names missing data; the exit code is 2 then.
    """
    import json

    from suite.cli.select import SelectorOptions

    planned = SelectorOptions(grid, profile, data, runs, dataset, method, only, seeds, set_, plugin, stage1).plan(
        obtain_inputs=False
    )
    if resolved:
        from suite.grid.recipe import own_first_stage

        for row in {cell.row.name: cell for cell in planned.cells}.values():
            _print_recipe(row.row.name, row.resolved.recipe.model_dump(mode="json"), row.resolved.origins)
            if row.stage1 is not None:
                own = ", the row's own method" * own_first_stage(row.row)
                name = f"{row.row.name}, first stage on {row.row.stage1}{own}"
                _print_recipe(name, row.stage1.recipe.model_dump(mode="json"), row.stage1.origins)
        return
    from suite.cli.select import warn_before_training
    from suite.execute.local.machine import machine
    from suite.planning.batches import refuse_uneven
    from suite.planning.forecast import Forecast
    from suite.planning.weights import missing_weights

    jobs, forecast = planned.explain(), Forecast(planned, machine(workers, devices))
    refuse_uneven((job for job in forecast.jobs if job.key in forecast.remaining), devices)
    if json_:
        listing = [
            {
                "key": p.job.key, "name": p.job.name, "status": p.status, "reason": p.reason,
                "seconds": forecast.remaining.get(p.job.key, 0.0), "source": forecast.estimates[p.job.key].source,
            }
            for p in jobs
        ]  # fmt: skip
        totals = {
            "seconds": forecast.seconds, "wall_seconds": forecast.wall_seconds, "gpu_seconds": forecast.gpu_seconds,
            "preparation_seconds": forecast.preparation_seconds, "disk_bytes": forecast.disk_bytes,
            "sources": forecast.sources, "alone": forecast.alone,
            "shared": forecast.shared, "stores": [asdict(store) for store in forecast.stores],
        }  # fmt: skip
        findings = {name: [finding.text for finding in used.findings] for name, used in planned.datasets.items()}
        content = {
            "cells": len(planned.cells), "jobs": listing, "missing": planned.missing, "forecast": totals,
            "findings": findings,
        }  # fmt: skip
        print(json.dumps(content, indent=2))
    else:
        for p in jobs:
            left = duration(forecast.remaining[p.job.key]) if p.job.key in forecast.remaining else ""
            print(f"{p.status:12}{p.job.key}  {p.job.name:40}{left:>9}  {p.reason}".rstrip())
        warn_before_training(forecast)
        for line in _summary(forecast, sum(p.status == "done" for p in jobs)):
            print(line)
        for name, used in planned.datasets.items():
            for finding in used.findings:
                print(f"{finding.level} {name}: {finding.text}")
        for line in _missing(planned):
            print(line)
        if (sentence := missing_weights(planned)) is not None:
            print(sentence)
    raise typer.Exit(2 if planned.missing and planned.profile.synthetic is None else 0)


def _missing(planned: Plan) -> Iterator[str]:
    """Missing data and checkpoints; of synthetic data, which a run renders, only the names."""
    from suite.data.catalogue import DATASETS

    drawn = [name for name in planned.missing if planned.profile.synthetic is not None and name in DATASETS]
    yield from (f"missing {name}: {reason}" for name, reason in planned.missing.items() if name not in drawn)
    if drawn:
        yield f"not rendered yet: {', '.join(drawn)}. `suite run` renders them, or now: suite data synth"


def _summary(forecast: Forecast, done: int) -> Iterator[str]:
    cells, jobs = len(forecast.cells), len(forecast.jobs)
    there = len(forecast.plan.cell_jobs)
    lacking = cells - there
    short = (
        f" (the data of {lacking} cell{'s' * (lacking > 1)} are missing: their jobs are counted, but not listed)"
        if lacking
        else ""
    )
    yield f"{cells} cell{'s' * (cells != 1)}, {jobs} job{'s' * (jobs != 1)}, {done} done{short}."
    (alone, alone_seconds), (shared, shared_seconds) = forecast.alone, forecast.shared
    if shared < alone:
        yield (
            f"Shared stages: {shared} jobs instead of {alone} for cells run one by one, "
            f"{duration(shared_seconds)} instead of {duration(alone_seconds)}."
        )
    if not forecast.remaining:
        return
    from suite.planning.costs import Machine

    machine = forecast.machine
    yield (
        f"To do: {duration(forecast.seconds)} of training, {duration(forecast.wall_seconds)} from start to end with "
        f"{machine.workers} worker{'s' * (machine.workers > 1)}"
        f"{f' of {machine.devices} devices' * (machine.devices > 1)}; {forecast.disk_bytes / 1e9:.1f} GB of disk."
    )
    if forecast.preparation_seconds > _SHORT:
        yield (
            f"Of that, {duration(forecast.preparation_seconds)} on this machine's cores before the first job: images "
            "decoded or checked, saliency maps computed."
        )
    for store in forecast.stores:
        if not store.ahead:
            yield (
                f"{store.dataset} is decoded on demand, from its own files: decoded ahead it would take "
                f"{store.decoded_bytes / 1e9:.1f} GB (SUITE_DECODE)."
            )
    on_gpus = forecast if machine.device == "cuda" else replace(forecast, machine=Machine("cuda", 1))
    yield f"GPU-hours: {on_gpus.gpu_seconds / 3600:.1f}{_basis(forecast, on_gpus)}."
    yield "Times are " + ", ".join(_SOURCES[source].format(count) for source, count in forecast.sources.items()) + "."


_SHORT = 60.0  # seconds of preparation that are not worth a line


def _basis(forecast: Forecast, on_gpus: Forecast) -> str:
    """What GPU-hours rest on, where that is neither this machine's jobs nor its benchmark."""
    if forecast is on_gpus:
        return ""
    known = sum(count for source, count in on_gpus.sources.items() if source != "assumed")
    if not known:
        return ", as on a V100 (no GPU is visible here)"
    return f", by the GPU's rates in the store for {known} of {on_gpus.sources.total()} jobs (no GPU is visible here)"


_SOURCES = {
    "benchmarked": "measured by suite bench ({} jobs)",
    "measured": "measured on finished jobs of the same kind ({} jobs)",
    "calibrated": "scaled by multiply-adds from other kinds of jobs that were measured ({} jobs)",
    "assumed": "guesses from multiply-adds and the rates in experiments/costs.yaml ({} jobs)",
}


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
