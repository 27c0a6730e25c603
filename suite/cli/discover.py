"""`suite list` and `suite show`: what there is to use, and where it comes from."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from suite.cli import options

KINDS = ("grids", "profiles", "methods", "views", "datasets", "protocols", "backbones")


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def list_(
    kind: Annotated[
        str | None, typer.Argument(help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]} [default: all]", autocompletion=_kinds)
    ] = None,
    plugin: options.Plugins = None,
    json_: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """List grids, profiles, methods, views, datasets and more."""
    from dataclasses import asdict

    from suite.discovery import entries_of_kind
    from suite.plugin import load_plugins

    load_plugins(plugin or ())
    things = {kind: entries_of_kind(kind) for kind in ([kind] if kind is not None else KINDS)}
    if json_:
        print(json.dumps({kind: [asdict(thing) for thing in each] for kind, each in things.items()}, indent=2))
        return
    for number, (title, each) in enumerate(things.items()):
        if kind is None:
            print(f"\n{title}" if number else title)
        width = max(len(thing.name) for thing in each) + 2
        for thing in each:
            print(f"{'  ' * (kind is None)}{thing.name:{width}}{thing.line} [{thing.source}]")


def show(name: Annotated[str, typer.Argument(help="a name from `suite list`")], plugin: options.Plugins = None) -> None:
    """Show one grid, profile, method, view, dataset or other name."""
    from suite.discovery import entries_named
    from suite.plugin import load_plugins

    load_plugins(plugin or ())
    for thing in entries_named(name):
        print(f"{thing.name} ({thing.kind.removesuffix('s')}): {thing.line}")
        print(f"source: {thing.source}")
        for line in thing.details:
            print(line)
