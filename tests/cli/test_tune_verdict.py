"""A trial that is first by a few held-out images is not announced as better than the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from suite.cli.tune import _undecided


def outcome(values: list[float | None], held_out: int) -> Any:
    trials = [{"number": n, "value": value, "params": {"views.scale": n / 10}} for n, value in enumerate(values)]
    finished = [trial for trial in trials if trial["value"] is not None]
    best = max(finished, key=lambda trial: trial["value"], default=None)
    return SimpleNamespace(trials=trials, best=None if best is None else best["number"], held_out=held_out)


@pytest.mark.parametrize(
    ("values", "held_out", "undecided"),
    [
        ([25.0, 37.5], 8, [0]),  # one image more of eight
        ([50.0, 50.0, 12.5], 40, [1]),  # a tie, and one that is far behind
        ([20.0, 80.0], 100, []),
        ([None, 40.0], 10, []),  # a trial that failed
        ([None], 10, []),
    ],
)
def test_which_trials_cannot_be_told_from_the_best(
    values: list[float | None], held_out: int, undecided: list[int]
) -> None:
    assert _undecided(outcome(values, held_out)) == undecided


def test_a_repeated_trial_is_no_rival() -> None:
    twice = outcome([50.0, 50.0], 10)
    twice.trials[1]["params"] = twice.trials[0]["params"]
    assert _undecided(twice) == []
