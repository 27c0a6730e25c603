"""Errors a user can act on: what was expected, what came, the nearest match, what to type next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 5  # names in an error; `suite list` has all


class SuiteError(Exception):
    """An error the user can fix. Shown without a traceback; the command exits with 2."""


class UsageError(SuiteError):
    """A name, option or configuration field that does not exist or does not fit."""


class DataError(SuiteError):
    """A dataset, saliency map or weight file that is missing or wrong. Raised before any training starts."""


class ImageError(DataError):
    """An image file that cannot be read or decoded; also raised in training where a dataset is decoded on demand."""


class TrainingError(SuiteError):
    """A job that cannot continue, such as a loss that is no longer finite; the command exits with 1."""


class StoreError(SuiteError):
    """The result store cannot be read or written, or holds something it should not."""


def unknown(what: str, name: str, names: Iterable[str], hint: str = "") -> UsageError:
    """The error for an unknown `name`: suggests the nearest of `names` and lists at most five of them.

    >>> str(unknown("method", "byol_csva", ["byol", "byol_cvsa"]))
    "unknown method 'byol_csva': did you mean 'byol_cvsa'? Known: byol, byol_cvsa."
    """
    choices = sorted(names)
    nearest = difflib.get_close_matches(name.lower(), choices, n=_LISTED, cutoff=0.0)
    near = difflib.get_close_matches(name.lower(), nearest, n=1, cutoff=0.5)
    suggestion = f"did you mean '{near[0]}'? " if near else ""
    if len(choices) <= _LISTED:
        listing = f"Known: {', '.join(choices) or 'none'}."
    else:
        listing = f"Nearest of {len(choices)}: {', '.join(nearest)}."
    return UsageError(f"unknown {what} '{name}': {suggestion}{listing}{' ' + hint if hint else ''}")
