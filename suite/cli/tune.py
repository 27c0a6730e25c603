"""`suite tune`: an Optuna study over recipe fields, judged on held-out training images."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from suite.cli import options

if TYPE_CHECKING:
    from suite.cli.select import SelectorOptions
    from suite.tuning.run import TuningOutcome

T = TypeVar("T")


def tune(
    grid: options.OptionalGrid = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", help="FIELD=LOW:HIGH[:log|:STEP], FIELD=A,B,C or FIELD; repeatable")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="total trials in the study, including earlier runs")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            help="a study of experiments/tuning, or a YAML file, that names grid, rows, parameters and trials; other "
            "options have priority",
        ),
    ] = None,
    profile: options.ProfileName = "paper",
    data: options.Data = None,
    runs: options.Runs = None,
    dataset: options.Datasets = None,
    method: options.Methods = None,
    only: options.Only = None,
    seeds: options.Seeds = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="jobs trained at the same time")] = None,
    devices: options.Devices = 1,
    loaders: options.Loaders = None,
    executor: options.Executor = "local",
    site: options.Site = None,
    address: options.Address = None,
    gpus_per_job: options.GpusPerJob = None,
    objective: Annotated[
        str | None,
        typer.Option("--objective", help="held-out accuracy to maximise: finetune, linear or knn [default: finetune]"),
    ] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="tpe, random or grid [default: tpe]")] = None,
    pruner: Annotated[
        str | None,
        typer.Option(
            "--pruner",
            help="median, halving or none: prunes trials by their kNN accuracy during pretraining [default: median]",
        ),
    ] = None,
    knn_every: Annotated[
        int | None,
        typer.Option("--knn-every", min=1, help="epochs between two kNN evaluations [default: a tenth of the epochs]"),
    ] = None,
    pretrain_on: Annotated[
        str | None,
        typer.Option(
            "--pretrain-on",
            help="all: every training image (labels of held-out ones unused); rest: exclude held-out images "
            "[default: all]",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="seed of the sampler")] = 0,
    study: Annotated[
        str | None, typer.Option("--study", help="name of the study [default: derived from the tuned fields]")
    ] = None,
    set_: options.Set = None,
    stage1: options.Stage1 = None,
    plugin: options.Plugins = None,
    json_: Annotated[bool, typer.Option("--json", help="print the outcome as JSON")] = False,
) -> None:
    """Tune recipe fields on held-out training images with Optuna.

    Writes the best values as a profile. Run the same command again to resume; a higher --trials extends the study.
    """
    from analysis.figures.tuning import tuning_figures
    from suite.cli.select import SelectorOptions
    from suite.execute.engine import EngineOptions
    from suite.execute.engines import create_engine
    from suite.grid.spec import load_grid
    from suite.grid.validate import validated
    from suite.plugin import with_plugins
    from suite.tuning.request import Tuning, TuningRequest
    from suite.tuning.run import tune as run_study
    from suite.tuning.shipped import load_space

    shipped = None if space is None else load_space(space)
    if shipped is not None:
        grid, trials = grid or shipped.grid, trials or shipped.trials
        method, dataset = method or list(shipped.methods), dataset or list(shipped.datasets)
        seeds = seeds or ",".join(map(str, shipped.seeds)) or None
    grid, trials = _needed("--grid", grid), _needed("--trials", trials)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    engine = create_engine(executor, EngineOptions(workers, devices, site, False, address, gpus_per_job, loaders))
    selectors = SelectorOptions(grid, profile, data, runs, dataset, method, only, seeds, set_, plugin, stage1)
    typed = {
        "objective": objective, "sampler": sampler, "pretrain_on": pretrain_on, "pruner": pruner,
        "knn_every": knn_every, "name": study,
    }  # fmt: skip
    values = {} if shipped is None else shipped.request
    values |= {name: value for name, value in typed.items() if value is not None}
    values |= {"params": (*values.get("params", ()), *(param or ())), "trials": trials, "seed": seed}
    request = validated(TuningRequest, values, "suite tune")
    plan = selectors.plan(obtain_inputs=True)
    tuning = Tuning(plan, with_plugins(load_grid(grid)), selectors.selection, profile, request)
    outcome = run_study(tuning, engine)
    figures = [str(path) for path in tuning_figures(tuning.folder)]
    following = outcome.next_command(grid, _selector_arguments(selectors))
    if json_:
        print(json.dumps({**_facts(outcome), "figures": figures, "next": following}, indent=2))
    else:
        _print(outcome, figures, following)
    raise typer.Exit(outcome.exit_code)


def _needed(option: str, value: T | None) -> T:
    """The option's value. UsageError if neither the command line nor a shipped study gives one."""
    from suite.errors import UsageError
    from suite.tuning.shipped import shipped_spaces

    if value is None:
        names = " or ".join(shipped_spaces())
        raise UsageError(f"suite tune needs {option}, or a shipped study, which states it: --space {names}")
    return value


def _selector_arguments(selectors: SelectorOptions) -> list[str]:
    """The selectors as typed, without --grid and --profile."""
    typed: list[tuple[str, Any]] = [("--data", selectors.data), ("--runs", selectors.runs)]
    typed += [("--dataset", name) for name in selectors.datasets or ()]
    typed += [("--method", name) for name in selectors.methods or ()]
    typed += [("--only", selectors.only), ("--seeds", selectors.seeds)]
    typed += [("--set", pair) for pair in selectors.overrides or ()]
    typed += [("--stage1", pair) for pair in selectors.stage1 or ()]
    typed += [("--plugin", path) for path in selectors.plugins or ()]
    return [word for option, value in typed if value is not None for word in (option, str(value))]


def _facts(outcome: TuningOutcome) -> dict[str, Any]:
    return {
        "study": outcome.tuning.name,
        "folder": str(outcome.tuning.folder),
        **outcome.tuning.facts,
        "trials": outcome.trials,
        "best": None if outcome.best is None else outcome.trials[outcome.best],
        "held_out": outcome.held_out,
        "undecided": _undecided(outcome),
        "profile": None if outcome.profile is None else str(outcome.profile),
        "trained": outcome.trained,
        "interrupted": outcome.interrupted,
        "seconds": round(outcome.seconds, 1),
    }


def _print(outcome: TuningOutcome, figures: list[str], following: str) -> None:
    fields = list(outcome.tuning.facts["space"])
    rows = [["trial", *fields, "held-out %", "state"]]
    for trial in outcome.trials:
        state = trial["state"] + (f" ({trial['note']})" if trial["note"] else "")
        value = "" if trial["value"] is None else f"{trial['value']:.2f}"
        rows.append([str(trial["number"]), *(_text(trial["params"].get(field)) for field in fields), value, state])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        print("  ".join([*(text.rjust(width) for text, width in zip(row, widths, strict=False)), row[-1]]))
    done = sum(trial["state"] not in {"running", "waiting"} for trial in outcome.trials)
    print(
        f"study {outcome.tuning.name}: {done} of {outcome.tuning.request.trials} trials, {outcome.trained} jobs "
        f"trained, {outcome.seconds:.0f} s. Everything is in {outcome.tuning.folder}"
    )
    if outcome.best is not None:
        best = outcome.trials[outcome.best]
        values = ", ".join(f"{field} {_text(value)}" for field, value in best["params"].items())
        images = f"{outcome.held_out} held-out training images"
        print(f"best: trial {outcome.best}, {values}: {best['value']:.2f} % on {images}")
        if others := _undecided(outcome):
            print(
                f"not told apart from trial {outcome.best}: {_listing(others)}, by Newcombe's 95 % interval of the "
                f"difference on {images}. More --seeds give more images."
            )
    print(f"figures: {', '.join(Path(path).name for path in figures) or 'none yet'}")
    if outcome.interrupted:
        print("interrupted; run the same command again to resume.")
    elif following:
        print(f"next: {following}")
    elif outcome.best is not None:
        print("no profile was written: the tuned rows share profile sections with rows that were not tuned.")


def _listing(numbers: list[int]) -> str:
    return f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _undecided(outcome: TuningOutcome) -> list[int]:
    """Trials with other values than the best one's, whose difference to it may be chance."""
    from analysis.statistics.intervals import difference_interval

    if outcome.best is None:
        return []
    best = outcome.trials[outcome.best]
    others = [trial for trial in outcome.trials if trial["value"] is not None and trial["params"] != best["params"]]
    return [
        trial["number"]
        for trial in others
        if difference_interval(best["value"], trial["value"], outcome.held_out)[0] <= 0
    ]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
