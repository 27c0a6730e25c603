"""Statistics over training runs and over test images, as pure functions of arrays.

Tests and t intervals over seeds describe repeated training on the same datasets and test images. The Wilson interval
describes other test images of the same kind for one trained network.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXACT_BLOCKS = 14  # with more, 2 ** 14 sign patterns are sampled with a fixed seed


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's two-sided interval of the mean of `values` [runs]; None with one run.

    Exact for normally distributed runs. With three runs t is 4.30 and the interval is wide. A bootstrap of so few
    values could not leave [min, max], so none is used.
    """
    from scipy.special import stdtrit  # the quantile of t; scipy.stats takes seconds to import

    if len(values) < 2:
        return None
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half


def sign_flip_test(blocks: ArrayLike) -> float:
    """Two-sided p of the hypothesis that independent paired differences [blocks] are as likely negative as positive.

    The statistic is their mean; under the hypothesis all sign patterns are equally likely (Fisher 1935, section 21): no
    distribution is assumed. Exact up to `EXACT_BLOCKS`. No p below 2 / 2 ** blocks exists.
    """
    differences = np.asarray(blocks, dtype=np.float64)
    count = differences.size
    if differences.ndim != 1 or count < 2 or not np.isfinite(differences).all():
        raise ValueError(f"expected at least two finite differences [blocks], got {differences}")
    exact = count <= EXACT_BLOCKS
    if exact:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
    else:
        bits = np.random.default_rng(0).integers(0, 2, (2**EXACT_BLOCKS, count))
    sums = np.abs((2.0 * bits - 1) @ differences)  # [patterns]
    observed = abs(differences.sum()) - 1e-9 * np.abs(differences).max()  # equal sums may differ by rounding
    reached = int((sums >= observed).sum())
    return reached / len(sums) if exact else (reached + 1) / (len(sums) + 1)


def paired_t_test(differences: ArrayLike) -> float | None:
    """Two-sided p of Student's test that paired differences [runs] have mean 0; None where all are equal."""
    from scipy.special import stdtr

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    t = values.mean() / (values.std(ddof=1) / math.sqrt(len(values)))
    return float(2 * stdtr(len(values) - 1, -abs(t)))


def blocks_of(differences: NDArray[np.float64], shared: bool) -> NDArray[np.float64]:
    """The independent parts of paired differences [runs, tasks].

    Where the tasks of a run share a stage of training (`shared`), only runs are independent: their means over tasks
    [runs]. Otherwise every element is independent [runs * tasks].
    """
    return differences.mean(axis=1) if shared else differences.ravel()


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for their number, in the same order: the family-wise error stays below the level for any
    dependence between them (Holm 1979).

    >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
