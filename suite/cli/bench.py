"""`suite bench`: what this device makes of every objective of a grid. Needs no data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from suite.cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from suite.bench.cases import Case
    from suite.bench.result import Failure, Measurement
    from suite.planning.costs import Machine
    from suite.planning.forecast import Forecast


def bench(
    grid: options.Grid,
    profile: options.ProfileName = "paper",
    data: options.Data = None,
    runs: options.Runs = None,
    dataset: options.Datasets = None,
    method: options.Methods = None,
    only: options.Only = None,
    set_: options.Set = None,
    stage1: options.Stage1 = None,
    plugin: options.Plugins = None,
    loaders: options.Loaders = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.1, help="seconds per measurement [default: 1 on a GPU, 3 on a CPU]"),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="print the numbers as JSON")] = False,
) -> None:
    """Time a few steps of every objective on this device.

    Random images of the datasets' sizes are used: no data are needed, and nothing is trained. Prints images per second
    of the whole loop, of the device alone and of the loaders alone, peak memory, and the options that fit. The rates
    are kept in the runs folder, where `suite plan` reads them.
    """
    import json

    from suite.bench.cases import cases_of
    from suite.bench.result import advise
    from suite.bench.text import content, notes, table
    from suite.cli.select import SelectorOptions
    from suite.cores import cores
    from suite.errors import UsageError
    from suite.execute.local.machine import machine
    from suite.execute.variables import use_job_variables
    from suite.planning.forecast import Forecast

    here = machine()
    use_job_variables(here.threads)  # before a plugin or a measurement loads torch
    plan = SelectorOptions(grid, profile, data, runs, dataset, method, only, None, set_, plugin, stage1).plan(
        obtain_inputs=False
    )
    cases = cases_of(Forecast(plan, here))
    if not cases:
        raise UsageError("the selected cells train nothing. Select a row that is pretrained, such as --method byol.")
    from suite.bench.measure import device_name

    name = device_name(here.device)
    if seconds is None:
        seconds = 3.0 if here.device == "cpu" else 1.0
    measured, failures, written = _measure_all(cases, here, loaders, seconds, name, plan.workspace.runs)
    advice = advise(measured, here.device, here.workers, cores())
    after = Forecast(plan, here)
    described: dict[str, Any] = {
        "device": here.device, "name": name, "cores": cores(), "threads": here.threads, "workers": here.workers,
    }  # fmt: skip
    if json_:
        told = content(measured, failures, advice, described)
        print(
            json.dumps(
                told | {"written": written, "gpu_seconds": after.gpu_seconds, "seconds": after.seconds}, indent=2
            )
        )
    else:
        print(f"{name} ({here.device}), {cores()} cores; images/s on random images")
        for line in (*table(measured), *notes(measured, failures)):
            print(line)
        if advice is not None:
            settings = f"--workers {advice.workers} --loaders {advice.loaders}"
            print(f"Use: suite run --grid {grid} --profile {profile} {settings}")
            print(advice.sentence)
        for line in _outlook(after, written):
            print(line)
    raise typer.Exit(1 if failures or any(one.error for one in measured) else 0)


def _measure_all(
    cases: list[Case], here: Machine, loaders: int | None, seconds: float, card: str, runs: Path
) -> tuple[list[Measurement], list[Failure], int]:
    """Every case in turn, and how many rates were written; progress on standard error.

    A rate is written as soon as it is known, so that those of an interrupted command are not lost.
    """
    from suite.bench.cases import batch_within
    from suite.bench.measure import Setup, measure
    from suite.bench.result import Failure
    from suite.bench.text import progress
    from suite.execute.loaders import default_loaders, steps_ahead
    from suite.training.feed import Loading

    threads = default_loaders(here) if loaders is None else loaders
    setup = Setup(here.device, Loading(threads, steps_ahead()), seconds, here.threads)
    measured: list[Measurement] = []
    failures: list[Failure] = []
    written = 0
    for number, case in enumerate(cases, 1):
        print(f"{number}/{len(cases)} {case.name}: ", end="", file=sys.stderr, flush=True)
        found = measure(case, batch_within(case, here, seconds), setup)
        if isinstance(found, Failure):
            failures.append(found)
            print("failed", file=sys.stderr, flush=True)
            continue
        measured.append(found)
        written += _record(found, here, card, runs)
        print(progress(found), file=sys.stderr, flush=True)
    return measured, failures, written


def _record(one: Measurement, here: Machine, card: str, runs: Path) -> bool:
    """Write a rate where `suite plan` reads it, unless it is that of another recipe."""
    from suite.planning.costs import Speed
    from suite.planning.throughput import record_speed

    if one.holds_for_recipe:
        runs.mkdir(parents=True, exist_ok=True)
        record_speed(runs, Speed(one.key, here.device, one.loop, one.macs, bench=True, card=card))
    return one.holds_for_recipe


def _outlook(forecast: Forecast, written: int) -> Iterator[str]:
    from suite.text import duration

    if not written:
        return
    yield f"{written} rates written to {forecast.plan.workspace.runs / 'throughput.jsonl'}; suite plan uses them."
    if forecast.remaining:
        gpu_hours = f"{forecast.gpu_seconds / 3600:.1f} GPU-hours, " if forecast.gpu_seconds else ""
        yield (
            f"This selection: {gpu_hours}{duration(forecast.wall_seconds)} from start to end with "
            f"{forecast.machine.workers} worker{'s' * (forecast.machine.workers > 1)}."
        )
