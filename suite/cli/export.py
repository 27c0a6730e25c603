"""`suite export`: write the network of a finished cell for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suite.cli import options
from suite.paths import path_option


def export(
    cell: Annotated[
        str,
        typer.Option("--cell", help="cell id, such as byol_cvsa/cub/0; the seed may be left out if there is only one"),
    ],
    grid: options.Grid,
    out: Annotated[Path, typer.Option("--out", parser=path_option("--out"), metavar="PATH", help="folder to write to")],
    stage: Annotated[
        str, typer.Option("--stage", help="pretrained: the backbone; finetuned: with its classifier")
    ] = "pretrained",
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="profile to export from; required if the grid was run with more than one"),
    ] = None,
    runs: options.Runs = None,
    plugin: options.Plugins = None,
) -> None:
    """Write a trained backbone as safetensors, with a model card.

    The files: model.safetensors under the key names of torchvision or of the plugin's library, config.json, README.md.
    """
    from typing import get_args

    from analysis.export.export import Stage, export_cell
    from suite.cli.select import load_store_plugins
    from suite.errors import unknown
    from suite.workspace import Workspace

    stages: dict[str, Stage] = {name: name for name in get_args(Stage)}
    if stage not in stages:
        raise unknown("stage", stage, stages)
    workspace = Workspace.of(None, runs)
    load_store_plugins(workspace.runs, plugin or ())
    for path in export_cell(workspace, grid, cell, profile, stages[stage], out):
        print(path)
