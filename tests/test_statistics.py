"""Intervals cover what they should, pairs count as pairs, and nothing is ever NaN."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mpar2.statistics import (
    accuracy_interval,
    bootstrap_interval,
    bootstrap_statistic,
    compare_arms,
    mcnemar,
    paired_bootstrap,
    wilson,
)


def test_wilson_known_values_and_ends():
    assert wilson(8, 10)[:3] == pytest.approx((0.8, 0.49016, 0.94332), abs=1e-5)
    assert wilson(0, 20)[:2] == (0.0, 0.0)
    assert wilson(0, 20).high == pytest.approx(0.16113, abs=1e-5)
    assert wilson(20, 20).high == 1.0
    assert wilson(0, 0) == (None, None, None, 0)


def test_wilson_refuses_impossible_counts():
    with pytest.raises(ValueError, match="11 successes of 10"):
        wilson(11, 10)
    with pytest.raises(ValueError, match="did you mean 0.95"):
        wilson(1, 2, level=95)


def test_bootstrap_of_a_mean_agrees_with_theory():
    values = np.random.default_rng(1).normal(3, 2, 400)
    found = bootstrap_interval(values, resamples=4000)
    half = 1.96 * values.std() / 20
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_distinct_rows_and_row_by_row_have_one_distribution():
    right = np.array([1] * 70 + [0] * 30)  # two distinct rows: the multinomial path
    nearly = right + np.linspace(0, 1e-9, 100)  # all distinct: the gathering path
    a, b = bootstrap_interval(right, resamples=20000), bootstrap_interval(nearly, resamples=20000)
    assert a[:3] == pytest.approx(b[:3], abs=0.011)


def test_many_items_take_the_fast_path_with_the_same_interval():
    rng = np.random.default_rng(2)
    below = rng.integers(1, 9, 1001).astype(float)
    above = below * rng.random(1001)
    fast, exact = bootstrap_interval(above, below), bootstrap_interval(above[:-1], below[:-1], resamples=2000)
    assert fast[:3] == pytest.approx(exact[:3], abs=4e-3)


def test_pooled_ratio_and_items_without_events():
    found = bootstrap_interval([2, 0, 0, 3], [4, 0, 2, 3])
    assert found.estimate == pytest.approx(5 / 9)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert bootstrap_interval([0, 0], [0, 0]) == (None, None, None, 2)


def test_clusters_are_resampled_whole():
    per_item = np.random.default_rng(0).integers(0, 2, 60)
    repeated, groups = np.repeat(per_item, 8), np.repeat(np.arange(60), 8)
    alone = bootstrap_interval(per_item, resamples=8000)
    clustered = bootstrap_interval(repeated, groups=groups, resamples=8000)
    assert clustered.n == 60
    assert clustered[:3] == pytest.approx(alone[:3], abs=0.02)
    assert accuracy_interval(repeated).high < clustered.high  # pretending independence is too narrow


def test_samples_that_are_all_right_are_as_sure_as_their_items_allow():
    assert accuracy_interval([1] * 40, groups=[i // 4 for i in range(40)]) == wilson(10, 10)


def test_same_seed_same_numbers_other_seed_others():
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_one_item_has_no_interval_and_none_no_estimate():
    assert bootstrap_interval([0.4]) == (0.4, None, None, 1)
    assert bootstrap_interval([]) == (None, None, None, 0)
    assert paired_bootstrap([], []) == (None, None, None, None, 0)


@pytest.mark.parametrize("bad", [[1, np.nan], [1, np.inf]])
def test_unscored_values_are_refused_not_averaged(bad):
    with pytest.raises(ValueError, match="leave unscored items out"):
        bootstrap_interval(bad)


def test_unpaired_columns_are_refused():
    with pytest.raises(ValueError, match="not paired"):
        paired_bootstrap([1, 0], [1])
    with pytest.raises(ValueError, match="one group for each value"):
        bootstrap_interval([1, 0], groups=["a"])


def test_pairing_sees_what_separate_bars_hide():
    rng = np.random.default_rng(5)
    difficulty = rng.normal(0, 1, 300)
    first, second = difficulty, difficulty + 0.1 + rng.normal(0, 0.1, 300)
    found = paired_bootstrap(first, second)
    assert found.low > 0 and found.p_value < 0.01
    assert bootstrap_interval(first).high > bootstrap_interval(second).low  # the bars overlap
    assert paired_bootstrap(first, first)[:4] == (0.0, 0.0, 0.0, 1.0)


def test_paired_difference_of_pooled_ratios():
    found = paired_bootstrap([1, 1, 0], [2, 2, 2], denominators=([2, 2, 2], [2, 3, 4]))
    assert found.estimate == pytest.approx(6 / 9 - 2 / 6)


def test_mcnemar_is_the_exact_binomial():
    first = [1] * 12 + [0] * 3 + [1] * 20
    second = [0] * 12 + [1] * 3 + [1] * 20
    found = mcnemar(first, second)
    assert found[:4] == (20, 12, 3, 0)
    assert found.p_value == pytest.approx(0.03515625)  # 2 * P(X <= 3 | 15, 1/2)
    assert mcnemar([1, 0], [1, 0]).p_value == 1.0
    assert 0 <= mcnemar([1] * 5000, [0] * 5000).p_value < 1e-300
    with pytest.raises(ValueError, match="not a mean of samples"):
        mcnemar([0.5], [1])


def test_any_statistic_can_be_bootstrapped():
    def correlation(x, y):
        x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))

    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = x + rng.normal(size=200)
    found = bootstrap_statistic(correlation, x, y)
    assert found.low < found.estimate < found.high
    assert found.estimate == pytest.approx(np.corrcoef(x, y)[0, 1])
    clustered = bootstrap_statistic(correlation, x, y, groups=np.arange(200) // 4, resamples=300)
    assert clustered.n == 50 and clustered.estimate == found.estimate
    assert bootstrap_statistic(correlation, [1.0, 1.0], [1.0, 2.0]) == (None, None, None, 2)


def test_evaluate_is_json_and_leaves_mcnemar_out_for_means_of_samples():
    single = compare_arms([1, 1, 0, 1], [0, 1, 0, 0])
    assert single["mcnemar"]["only_first"] == 2 and single["first"] == wilson(3, 4)._asdict()
    means = compare_arms([1, 0.5, 0], [0, 0.5, 0.25])
    assert means["mcnemar"] is None and means["difference"]["estimate"] == pytest.approx(-0.25)
    json.dumps([single, means], allow_nan=False)
