"""`suite publish`: results as a folder for a web server or the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suite.cli import options
from suite.paths import path_option


def publish(
    out: Annotated[
        Path,
        typer.Option(
            "--out", parser=path_option("--out"), metavar="PATH", help="folder to write: new, or an earlier publication"
        ),
    ],
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", help="grid to publish; repeatable [default: every grid in the store]"),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="profile to publish; required if a grid was run with more than one")
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option("--cell", help="cell whose network is published, such as byol_cvsa/cub/0; repeatable"),
    ] = None,
    stage: Annotated[
        str, typer.Option("--stage", help="stage of these networks: pretrained, or finetuned (with the classifier)")
    ] = "pretrained",
    weights: Annotated[
        bool, typer.Option("--weights/--no-weights", help="publish the weights of these networks, not only their cards")
    ] = True,
    title: Annotated[str | None, typer.Option("--title", help="title of the page [default: the grids' names]")] = None,
    upload: Annotated[
        str | None,
        typer.Option("--upload", metavar="OWNER/NAME", help="upload the folder to this Hugging Face repository"),
    ] = None,
    repo_type: Annotated[
        str, typer.Option("--repo-type", help="model, dataset, or space (a web page); for --upload")
    ] = "model",
    public: Annotated[
        bool, typer.Option("--public", help="a repository that --upload creates is public; else private")
    ] = False,
    runs: options.Runs = None,
    plugin: options.Plugins = None,
) -> None:
    """Write report, model cards and weights as a folder to share.

    No path, user name, host name or token of this machine is written. Nothing is uploaded without --upload.
    """
    from analysis.publish.hub import check_target
    from analysis.publish.hub import upload as upload_folder
    from analysis.publish.publish import STAGES, PublicationOptions
    from analysis.publish.publish import publish as publish_folder
    from analysis.report import grids_run
    from suite.cli.select import load_store_plugins
    from suite.errors import unknown
    from suite.workspace import Workspace

    if stage not in STAGES:
        raise unknown("stage", stage, STAGES)
    if upload is not None:
        check_target(upload, repo_type)
    workspace = Workspace.of(None, runs)
    load_store_plugins(workspace.runs, plugin or ())
    options = PublicationOptions(
        tuple(grid or grids_run(workspace)), profile, tuple(cell or ()), STAGES[stage], weights, title
    )
    record = publish_folder(workspace, options, out)
    print(out / "index.html")
    if upload is not None:
        print(upload_folder(out, record, upload, repo_type, not public))
