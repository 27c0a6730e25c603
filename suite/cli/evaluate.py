"""`suite evaluate`: measure frozen backbones without pretraining and without fine-tuning."""

from __future__ import annotations

import json
import logging
import sys
from typing import Annotated

import typer

from suite.cli import options


def evaluate(
    backbones: Annotated[
        list[str],
        typer.Argument(
            metavar="BACKBONE",
            help="ARCH (random weights), ARCH=FILE or ARCH=URL#sha256=...; NAME: before it names the row. "
            "`suite list backbones` names the architectures",
        ),
    ],
    dataset: options.Datasets = None,
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", help="localisation, background or both, beside the probes; repeatable"),
    ] = None,
    profile: options.ProfileName = "evaluate",
    data: options.Data = None,
    runs: options.Runs = None,
    seeds: options.Seeds = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="jobs run at the same time [default: by the machine and the backbones]"),
    ] = None,
    set_: options.Set = None,
    plugin: options.Plugins = None,
    json_: Annotated[bool, typer.Option("--json", help="print the outcome as JSON")] = False,
) -> None:
    """Measure frozen backbones by kNN, linear classifier, retrieval.

    Only the linear classifier is trained. The weights may come from a file of torchvision, timm, MoCo, DINO and
    other projects, or from `suite export`. `suite report --grid evaluate` writes tables and a page.
    """
    from suite.api import evaluate as evaluate_backbones
    from suite.cli.select import parse_seeds
    from suite.grid.cells import parse_overrides

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    outcome = evaluate_backbones(
        backbones, measure=measure or (), workers=workers, datasets=dataset or (), profile=profile, data=data,
        runs=runs, seeds=parse_seeds(seeds), overrides=parse_overrides(set_ or ()), plugins=plugin or (),
    )  # fmt: skip
    if json_:
        print(json.dumps(outcome.as_dict(), indent=2))
    else:
        from rich.console import Console

        from analysis.report import evaluation_tables
        from analysis.tables.metrics_text import to_text

        for table in evaluation_tables(outcome.plan.workspace, outcome.plan.profile.name):
            Console().print(to_text(table))
        print(outcome.text())
    raise typer.Exit(outcome.exit_code)
