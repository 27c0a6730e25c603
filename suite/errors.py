"""Errors a user can act on: what was expected, what came, the nearest match, what to type next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SuiteError(Exception):
    """A mistake the user can mend. Shown without a traceback; the command exits with 2."""


class UsageError(SuiteError):
    """A name, option or configuration field that does not exist or does not fit."""


class DataError(SuiteError):
    """A dataset, saliency map or weight file that is missing or wrong. Raised before any training starts."""


class TrainingError(SuiteError):
    """A job that cannot go on, such as a loss that is no longer finite."""


class StoreError(SuiteError):
    """The result store cannot be read or written, or holds something it should not."""


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> UsageError:
    """The error for an unknown `name`: says the nearest known one and lists them all.

    >>> str(unknown("method", "byol_csva", ["byol", "byol_cvsa"]))
    "unknown method 'byol_csva': did you mean 'byol_cvsa'? Known: byol, byol_cvsa."
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    suggestion = f"did you mean '{near[0]}'? " if near else ""
    listing = ", ".join(choices) if choices else "none"
    return UsageError(f"unknown {what} '{name}': {suggestion}Known: {listing}.{' ' + hint if hint else ''}")
