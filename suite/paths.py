"""Paths as users write them, in options and in environment variables: the one place where they enter.

No shell expands `--runs=~/runs`, or `SUITE_RUNS="~/runs"` in an .env file. An expanded path is absolute, so that a
later change of the current folder means nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from suite.errors import UsageError

_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def user_path(text: str | Path, origin: str = "a path") -> Path:
    """The absolute path of `text`, with `~` and `$NAME` expanded; links are kept.

    Args:
        text: as written; taken literally where exactly that exists.
        origin: the option or variable it comes from, for errors.

    Raises:
        UsageError: it is empty or holds a null byte, the home folder is unknown, or a variable in it is not set.
    """
    written = str(text)
    if not written or "\0" in written:
        raise UsageError(f"{origin} expects a path, got {written!r}.")
    expanded = written
    if "$" in written and not Path(written).exists():
        expanded = os.path.expandvars(written)
        if (missing := _VARIABLE.search(expanded)) is not None:
            raise UsageError(
                f"{origin} is '{written}', and the environment variable {missing[1].strip('{}')} is not set. Set it, "
                "or write the path out."
            )
    if expanded.startswith("~"):
        try:
            expanded = str(Path(expanded).expanduser())
        except RuntimeError:
            raise UsageError(
                f"{origin} is '{written}', and there is no such home folder: HOME is not set, or no such user. Write "
                "the path out."
            ) from None
    return Path(os.path.abspath(expanded))  # noqa: PTH100  - Path.absolute keeps "..", resolve() follows links


def path_from_environment(name: str) -> Path | None:
    """The path in an environment variable; None where it is not set or empty."""
    text = os.environ.get(name, "").strip()
    return user_path(text, f"the environment variable {name}") if text else None


def absolute_environment() -> None:
    """Rewrite the suite's own path variables to absolute paths, for this process and its children."""
    for name in ("SUITE_DATA", "SUITE_RUNS", "SUITE_CACHE", "SUITE_MODELS"):
        if (path := path_from_environment(name)) is not None:
            os.environ[name] = str(path)


def path_option(name: str) -> Callable[[str | Path], Path]:
    """`user_path` as the parser of the command line option `name`."""

    def parse(text: str | Path) -> Path:
        return user_path(text, name)

    return parse
