"""Commands whose help and shell completion load nothing but Typer.

Typer 0.29 loads pydantic as soon as it converts one option. Help and completion need no converted option.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class LightCommand(TyperCommand):
    """Prints its help before Typer converts any argument, and converts none for shell completion."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer's, but `--help` comes first."""
        if "--help" in args:
            print(ctx.get_help())
            raise typer.Exit()
        if ctx.resilient_parsing:  # for completion: only the names of options and arguments matter
            ctx.params.update({parameter.name: None for parameter in self.params})
            return []
        return super().parse_args(ctx, args)


class LightGroup(TyperGroup):
    """A group whose own options are not converted where a command follows: there are none to convert."""

    _command_follows = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer's, with as few options as the arguments need."""
        self._command_follows = ctx.resilient_parsing or (bool(args) and not args[0].startswith("-"))
        try:
            return super().parse_args(ctx, args)
        finally:
            self._command_follows = False

    def get_params(self, ctx: Any) -> list[Any]:
        """As Typer's; none while the arguments start with a command."""
        return [] if self._command_follows else super().get_params(ctx)
