"""The result of one training or measuring loop."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What a loop returns to the worker, which writes it to result.json."""

    metrics: dict[str, float]
    images: int  # passed through the network in this attempt
    seconds: float  # of this attempt
    suspicious: list[str] = field(default_factory=list)  # reasons to doubt the result
    counts: dict[str, int] = field(default_factory=dict)  # such as n_train, n_test
