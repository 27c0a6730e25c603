"""The statistics against values worked out by hand, tables and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.comparisons import Comparison, compare, out_of_reach
from analysis.statistics.tests import blocks_of, holm, paired_t_test, sign_flip_test, t_interval


def test_t_interval_of_three_runs() -> None:
    found = t_interval([1.0, 2.0, 3.0])
    assert found is not None
    half = 4.302652729911275 / math.sqrt(3)  # t of two degrees of freedom at .975, deviation 1
    assert found == pytest.approx((2 - half, 2 + half))
    assert t_interval([1.0]) is None
    wider = t_interval([1.0, 2.0, 3.0], level=0.99)
    assert wider is not None
    assert wider[1] > found[1]


def test_t_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(70, 0.5, size=(1000, 3)).tolist()
    hits = [low <= 70 <= high for low, high in (t_interval(sample) or (0.0, 0.0) for sample in samples)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.02)


def by_hand(differences: list[float]) -> float:
    """All patterns of signs, one after the other."""
    observed = abs(math.fsum(differences))
    flips = itertools.product((-1, 1), repeat=len(differences))
    means = [abs(math.fsum(sign * d for sign, d in zip(flip, differences, strict=True))) for flip in flips]
    return sum(mean >= observed - 1e-9 for mean in means) / len(means)


def test_sign_flips_are_counted_exactly() -> None:
    assert sign_flip_test([1.0, 2.0, 3.0]) == 2 / 8
    assert sign_flip_test([0.0, 0.0, 0.0]) == 1.0
    differences = [0.31, -0.2, 0.44, 0.1, 0.25, -0.07, 0.5, 0.02]
    assert sign_flip_test(differences) == pytest.approx(by_hand(differences))
    with pytest.raises(ValueError, match="at least two"):
        sign_flip_test([1.0])
    with pytest.raises(ValueError, match="finite"):
        sign_flip_test([1.0, math.nan])


@pytest.mark.parametrize("count", [5, 9, 12])
def test_scipy_finds_the_same(count: int) -> None:
    from scipy.stats import permutation_test, ttest_1samp

    differences = np.random.default_rng(count).normal(0.4, 1, count)
    theirs = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=2**count)
    assert sign_flip_test(differences) == pytest.approx(theirs.pvalue)
    assert paired_t_test(differences) == pytest.approx(ttest_1samp(differences, 0).pvalue)


def test_sign_flips_reject_rarely_where_there_is_nothing() -> None:
    rng = np.random.default_rng(1)
    p = np.array([sign_flip_test(rng.normal(0, 1, 8)) for _ in range(300)])
    assert 0.01 < (p <= 0.05).mean() < 0.09
    shifted = [sign_flip_test(rng.normal(1.5, 1, 12)) for _ in range(20)]
    assert np.mean(np.array(shifted) <= 0.05) > 0.9  # and find what is there


def test_many_blocks_are_sampled_the_same_way_each_time() -> None:
    differences = np.random.default_rng(2).normal(0.3, 1, 40)
    assert sign_flip_test(differences) == sign_flip_test(differences)
    from scipy.stats import ttest_1samp

    assert sign_flip_test(differences) == pytest.approx(ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_paired_t_test_by_hand() -> None:
    assert paired_t_test([1.0, 2.0, 3.0]) == pytest.approx(0.0741799, abs=1e-6)  # t = 2 sqrt(3), two degrees
    assert paired_t_test([0.5, 0.5, 0.5]) is None
    assert paired_t_test([0.5]) is None


def test_a_shared_stage_leaves_only_runs_independent() -> None:
    matrix = np.array([[1.0, 3.0], [5.0, 7.0]])  # [runs, tasks]
    assert blocks_of(matrix, shared=True).tolist() == [2.0, 6.0]
    assert blocks_of(matrix, shared=False).tolist() == [1.0, 3.0, 5.0, 7.0]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm's own steps
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni_and_is_blind_to_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, one in zip(p_values, adjusted, strict=True):
        assert p <= one <= min(1.0, p * len(p_values))
    assert holm(p_values[::-1]) == adjusted[::-1]


def runs_of(
    effect: float, seeds: int, datasets: tuple[str, ...] = ("a", "b", "c", "d")
) -> dict[tuple[str, str], dict[int, float]]:
    rng = np.random.default_rng(3)
    runs = {("base", name): {seed: 70 + rng.normal(0, 0.3) for seed in range(seeds)} for name in datasets}
    return runs | {
        ("row", name): {seed: 70 + effect + rng.normal(0, 0.3) for seed in range(seeds)} for name in datasets
    }


def test_three_seeds_are_tested_pooled_and_never_on_one_dataset() -> None:
    (one,) = compare(runs_of(1.5, 3), "base", ["base", "row"], ["a", "b", "c", "d"])
    assert (one.pooled, one.test, one.seeds, one.blocks) == (True, "sign flip", 3, 12)
    assert one.p == 2 / 2**12  # every difference is positive
    assert one.significant
    assert one.difference == pytest.approx(1.5, abs=0.3)
    assert compare(runs_of(1.5, 4, ("a",)), "base", ["base", "row"], ["a"]) == ()


def test_five_seeds_are_tested_on_one_dataset_too() -> None:
    found = compare(runs_of(1.5, 5), "base", ["row"], ["a", "b", "c", "d"])
    assert [one.test for one in found] == ["sign flip"] + ["paired t"] * 4
    assert [one.p_holm for one in found[1:]] == holm([one.p for one in found[1:]])  # a family of its own


def test_with_a_shared_first_stage_few_seeds_decide_nothing() -> None:
    found = compare(runs_of(1.5, 3), "base", ["row"], ["a", "b", "c", "d"], shared=["base"])
    assert (found[0].blocks, found[0].p) == (3, 0.25)
    assert out_of_reach(found)
    assert not found[0].significant


def test_only_seeds_and_datasets_that_both_have_are_compared() -> None:
    runs = runs_of(1.5, 4)
    del runs["row", "d"], runs["row", "a"][0], runs["base", "b"][3]
    (one,) = compare(runs, "base", ["row", "absent"], ["a", "b", "c", "d"])
    assert (one.datasets, one.seeds, one.blocks) == (("a", "b", "c"), 2, 6)
    assert isinstance(one, Comparison)
