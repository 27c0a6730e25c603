"""The command line reference, from the Typer application itself."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

_HEAD = """# Command line

Made from the commands themselves when this site is built; `suite COMMAND --help` prints the same. Data go to stdout,
progress goes to stderr. Exit codes: 0 all done; 1 some cells failed, the others finished; 2 a wrong or missing name,
option or dataset, nothing was started; 130 interrupted.
"""


def command_reference() -> str:
    """Markdown: every command with its usage, arguments and options."""
    from suite.cli import app

    sections = [_section(words, command) for words, command in _commands(get_command(app), ("suite",))]
    return "\n".join([_HEAD, *sections])


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words, those of a group behind the group."""
    yield words, command
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _commands(child, (*words, name))


def _section(words: tuple[str, ...], command: Any) -> str:
    name = " ".join(words)
    context = command.context_class(command, info_name=name)
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = [f"## {name} {{ #{'-'.join(words)} }}", "", command.help or "", "", "```", usage, "```", ""]
    parameters = command.get_params(context)
    records = [record for parameter in parameters if (record := parameter.get_help_record(context)) is not None]
    if records:
        rows = (f"| `{left}` | {_cell(right)} |" for left, right in records)
        lines += ["| option | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A help text as a table's cell."""
    return html.escape(text, quote=False).replace("|", "&#124;").replace("*", "&#42;").replace("\n", " ")
