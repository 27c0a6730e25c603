"""`suite leaderboard`: rank the rows of several published folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suite.paths import path_option


def leaderboard(
    folder: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...", parser=path_option("FOLDER"), help="folders that `suite publish` wrote; only read"
        ),
    ],
    out: Annotated[Path, typer.Option("--out", parser=path_option("--out"), metavar="PATH", help="folder to write to")],
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol", help="protocol to rank by: finetune, linear or knn; repeatable [default: these three]"
        ),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="title of the page")] = "Leaderboard",
) -> None:
    """Rank the rows of published folders where they are comparable.

    Rows share a ranking only with the same images, profile and settings; others are
    shown in separate blocks, with the reason.
    """
    from analysis.publish.leaderboard import PROTOCOLS
    from analysis.publish.leaderboard_page import write_leaderboard

    for path in write_leaderboard(folder, out, title, tuple(protocol or PROTOCOLS)):
        print(path)
