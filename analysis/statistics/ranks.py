"""Ranks of rows over datasets, as pure functions of accuracies [datasets, rows].

Demšar 2006, Statistical comparisons of classifiers over multiple data sets, JMLR 7, section 3.2.2. The datasets are the
sample: a statement is about other datasets like these, not about other seeds. With few datasets these tests find only
large and consistent differences, and Friedman's chi-squared p is approximate.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

# With two rows, or on two datasets, no difference of mean ranks that can occur is significant at 5 %.
MIN_ROWS, MIN_DATASETS = 3, 3


def mean_ranks(accuracies: ArrayLike) -> NDArray[np.float64]:
    """Mean rank of every row [rows] over datasets: 1 is the highest accuracy, ties share their ranks.

    >>> mean_ranks([[50.0, 70.0, 60.0], [50.0, 60.0, 60.0]]).tolist()
    [3.0, 1.25, 1.75]
    """
    from scipy.stats import rankdata

    return np.asarray(rankdata(-_checked(accuracies), axis=1).mean(axis=0), dtype=np.float64)


def friedman_test(accuracies: ArrayLike) -> float:
    """p of Friedman's chi-squared test that all rows have the same mean rank; 1 where all accuracies are tied."""
    from scipy.stats import friedmanchisquare

    values = _checked(accuracies)
    if not np.ptp(values, axis=1).any():
        return 1.0
    p = float(friedmanchisquare(*values.T).pvalue)
    return p if math.isfinite(p) else 1.0


def nemenyi_test(accuracies: ArrayLike) -> NDArray[np.float64]:
    """p of Nemenyi's test [rows, rows] that two rows have the same mean rank, corrected for the number of pairs.

    Computed by scikit-posthocs (extra `ranks`).

    Raises:
        ImportError: it is not installed.
    """
    from scikit_posthocs import posthoc_nemenyi_friedman

    return np.asarray(posthoc_nemenyi_friedman(_checked(accuracies)), dtype=np.float64)


def _checked(accuracies: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(accuracies, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < MIN_ROWS or not np.isfinite(values).all():
        raise ValueError(f"expected finite accuracies [datasets, rows] of at least 2 x {MIN_ROWS}, got {values.shape}")
    return values
