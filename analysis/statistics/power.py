"""How many seeds a paired comparison needs, as a pure function."""

from __future__ import annotations

import math

MOST = 1000  # seeds; more are not searched


def seeds_needed(std: float, difference: float, power: float = 0.8, level: float = 0.05) -> int | None:
    """The number of seeds with which a paired two-sided t test finds a true `difference` with probability `power`.

    Args:
        std: standard deviation of the paired differences over seeds, in points.
        difference: the true mean difference, in points.
        power: probability that the test finds it.
        level: significance level of the test.

    Returns:
        None where more than `MOST` seeds are needed.

    From the noncentral t distribution (Cohen 1988, Statistical Power Analysis, section 2.5). With few seeds `std` is
    itself uncertain, so the number is a rough one.

    >>> seeds_needed(std=2.0, difference=2.0)
    10
    """
    from scipy.special import nctdtr, stdtrit  # scipy.stats takes seconds to import

    if not (std > 0 and difference and math.isfinite(std) and math.isfinite(difference)):
        raise ValueError(f"expected a positive std and a difference other than 0, got {std} and {difference}")
    for seeds in range(2, MOST + 1):
        critical = float(stdtrit(seeds - 1, 1 - level / 2))
        shift = abs(difference) / std * math.sqrt(seeds)
        if 1 - float(nctdtr(seeds - 1, shift, critical)) >= power:
            return seeds
    return None
