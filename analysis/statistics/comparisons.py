"""Tests of the rows of a table against its reference row: do they differ by more than another training run would?

**Pooled over datasets.** A row and the reference were trained with the same seeds on every dataset. Their differences
are exchanged in sign (`statistics.sign_flip_test`), one independent block at a time: a block is a (dataset, seed) pair,
or a whole seed where the datasets share a first stage, because their results are then correlated. Datasets have equal
weight and are fixed effects, not a sample of datasets.

**On one dataset** only with `MIN_SEEDS` seeds or more: a paired t test, because a sign-flip test of five seeds cannot
reach 5 %. Fewer seeds on one dataset are not tested. Each of the two families is corrected by Holm's method.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.tests import blocks_of, holm, paired_t_test, sign_flip_test

LEVEL = 0.05
MIN_SEEDS = 5  # on one dataset

Runs = Mapping[tuple[str, str], Mapping[int, float]]  # (row, dataset) -> seed -> percent


@dataclass(frozen=True, slots=True)
class Comparison:
    """The test of one row against the reference row, on their common seeds."""

    row: str
    datasets: tuple[str, ...]
    seeds: int  # per dataset
    blocks: int  # number of independent differences
    test: str  # sign flip, paired t
    difference: float  # percent points, row - reference, mean over datasets and seeds
    p: float
    p_holm: float

    @property
    def pooled(self) -> bool:
        """Whether the test covers several datasets."""
        return len(self.datasets) > 1

    @property
    def significant(self) -> bool:
        """Whether the corrected p is at most 5 %."""
        return self.p_holm <= LEVEL


def compare(
    runs: Runs, reference: str, rows: Sequence[str], datasets: Sequence[str], shared: Collection[str] = ()
) -> tuple[Comparison, ...]:
    """All comparisons of `rows` with `reference`, pooled ones first. shared: rows whose first stage serves several
    datasets."""
    pooled, single = [], []
    for row in rows:
        if row == reference:
            continue
        both = [name for name in datasets if (row, name) in runs and (reference, name) in runs]
        seeds = _common_seeds(runs, row, reference, both)
        if len(both) > 1 and len(seeds) > 1:
            matrix = _differences(runs, row, reference, both, seeds)
            blocks = blocks_of(matrix, bool({row, reference} & set(shared)))
            p = sign_flip_test(blocks)
            mean = float(matrix.mean())
            pooled.append(Comparison(row, tuple(both), len(seeds), len(blocks), "sign flip", mean, p, p))
        for name in both:
            seeds = _common_seeds(runs, row, reference, [name])
            if len(seeds) >= MIN_SEEDS:
                differences = _differences(runs, row, reference, [name], seeds)
                p_of_t = paired_t_test(differences[:, 0])
                if p_of_t is not None:
                    mean, count = float(differences.mean()), len(seeds)
                    single.append(Comparison(row, (name,), count, count, "paired t", mean, p_of_t, p_of_t))
    return (*_corrected(pooled), *_corrected(single))


def out_of_reach(comparisons: Sequence[Comparison]) -> bool:
    """Whether there are too few blocks for a sign-flip test to reach the corrected level at all."""
    return all(len(comparisons) * 2 / 2**one.blocks > LEVEL for one in comparisons)


def _corrected(family: Sequence[Comparison]) -> list[Comparison]:
    adjusted = holm([one.p for one in family])
    return [replace(one, p_holm=p) for one, p in zip(family, adjusted, strict=True)]


def _common_seeds(runs: Runs, row: str, reference: str, datasets: Sequence[str]) -> list[int]:
    seeds = [set(runs[name, dataset]) for name in (row, reference) for dataset in datasets]
    return sorted(set.intersection(*seeds)) if seeds else []


def _differences(
    runs: Runs, row: str, reference: str, datasets: Sequence[str], seeds: Sequence[int]
) -> NDArray[np.float64]:
    """[runs, tasks]: row - reference, seed by seed."""
    return np.array([[runs[row, name][seed] - runs[reference, name][seed] for name in datasets] for seed in seeds])
