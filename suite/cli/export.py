"""`suite export`: a finished cell's network for others to use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suite.cli import options


def export(
    cell: Annotated[str, typer.Option("--cell", help="such as byol_cvsa/cub/0; without the seed where there is one")],
    grid: options.Grid,
    out: Annotated[Path, typer.Option("--out", help="folder to write to")],
    stage: Annotated[
        str, typer.Option("--stage", help="pretrained: the backbone; finetuned: with its classifier")
    ] = "pretrained",
    profile: Annotated[str | None, typer.Option("--profile", help="which, where a grid was run with several")] = None,
    runs: options.Runs = None,
    plugin: options.Plugins = None,
) -> None:
    """Write model.safetensors with torchvision's key names, config.json and a model card (README.md)."""
    from typing import get_args

    from analysis.export.export import Stage, export_cell
    from suite.errors import unknown
    from suite.plugin import load_plugins
    from suite.workspace import Workspace

    stages: dict[str, Stage] = {name: name for name in get_args(Stage)}
    if stage not in stages:
        raise unknown("stage", stage, stages)
    load_plugins(plugin or ())
    for path in export_cell(Workspace.of(None, runs), grid, cell, profile, stages[stage], out):
        print(path)
