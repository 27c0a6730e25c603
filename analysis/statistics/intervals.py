"""Intervals of one accuracy and of a difference of two, as pure functions.

Over seeds the difference is paired: both networks were trained with the same seeds. With one seed only the sampling of
the test images is known. The networks share the images, but which of them each classifies correctly is not recorded, so
the two accuracies are taken as independent, which is conservative where they agree on most images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from analysis.statistics.tests import t_interval

_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution

Interval = tuple[float, float]


def wilson_interval(percent: float, n: int) -> Interval:
    """Wilson's 95 % score interval, in percent, of an accuracy on `n` test images (Wilson 1927).

    >>> [round(end, 2) for end in wilson_interval(50.0, 100)]
    [40.38, 59.62]
    """
    if n < 1 or not 0 <= percent <= 100:
        raise ValueError(f"expected a percentage and at least one test image, got {percent} and {n}")
    p, z2 = percent / 100, _Z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def difference_interval(percent: float, reference: float, n: int) -> Interval:
    """Newcombe's 95 % interval of percent - reference, in points, from Wilson's of both (Newcombe 1998, method 10)."""
    low, high = wilson_interval(percent, n)
    reference_low, reference_high = wilson_interval(reference, n)
    difference = percent - reference
    return (
        difference - math.hypot(percent - low, reference_high - reference),
        difference + math.hypot(high - percent, reference - reference_low),
    )


def paired_interval(row: Mapping[int, float], reference: Mapping[int, float], n: int) -> tuple[Interval, bool] | None:
    """95 % interval of the mean difference row - reference, in points; and whether it is an interval over seeds.

    Args:
        row: {seed: percent}.
        reference: {seed: percent} of the reference row on the same test images.
        n: number of test images.

    With two common seeds or more it is the paired t interval over seeds. With one common seed, or where the differences
    of all seeds are equal and have no variance to estimate, it is `difference_interval` of the means. None without a
    common seed.
    """
    seeds = sorted(row.keys() & reference.keys())
    if not seeds:
        return None
    differences = [row[seed] - reference[seed] for seed in seeds]
    interval = t_interval(differences) if max(differences) > min(differences) else None
    if interval is not None:
        return interval, True
    mean = sum(row[seed] for seed in seeds) / len(seeds)
    return difference_interval(mean, mean - sum(differences) / len(seeds), n), False


def is_supported(row: Mapping[int, float], reference: Mapping[int, float], n: int) -> bool:
    """Whether the 95 % interval of row - reference excludes 0; arguments as of `paired_interval`."""
    paired = paired_interval(row, reference, n)
    return paired is not None and (paired[0][0] > 0 or paired[0][1] < 0)
