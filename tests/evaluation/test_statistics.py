"""Paired differences against scipy's paired t-test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from otcache_plugin.evaluation.statistics import PairedDifference, paired_difference


@given(st.integers(0, 10_000), st.integers(2, 60), st.floats(-2, 2))
@settings(max_examples=50)
def test_the_interval_is_students(seed: int, count: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(30 + shift, 3, count)
    b = a - shift + rng.normal(0, 1, count)
    found = paired_difference(a, b)
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    assert found.pairs == count
    assert found.mean == pytest.approx((a - b).mean())
    assert found.standard_error == pytest.approx(stats.sem(a - b))
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.low < found.mean < found.high
    # The interval leaves zero out exactly when the test rejects at 5 %.
    assert found.excludes_zero == (test.pvalue < 0.05)


def test_by_hand() -> None:
    found = paired_difference(np.array([1.0, 2.0, 6.0]), np.array([0.0, 0.0, 3.0]))
    # Differences 1, 2, 3: deviation 1, error 1 / sqrt(3), t of two degrees of freedom 4.302653.
    assert found.mean == 2
    assert found.standard_error == pytest.approx(3**-0.5)
    assert found.low == pytest.approx(2 - 4.302653 * 3**-0.5)
    assert found.high == pytest.approx(2 + 4.302653 * 3**-0.5)
    assert not found.excludes_zero
    assert str(found) == "+2.00 [-0.48, +4.48]"


@pytest.mark.parametrize(
    ("a", "b", "win_rate"),
    [
        ([2, 3, 4, 5], [1, 1, 1, 1], 1.0),
        ([0, 0], [1, 1], 0.0),
        ([1, 1], [1, 1], 0.5),
        ([2, 1, 0, 1], [1, 1, 1, 1], 0.5),
        ([2, 1, 1, 1], [1, 1, 1, 1], 0.625),
    ],
)
def test_a_tie_is_half_a_win(a: list[float], b: list[float], win_rate: float) -> None:
    assert paired_difference(np.array(a, float), np.array(b, float)).win_rate == win_rate
    assert paired_difference(np.array(b, float), np.array(a, float)).win_rate == 1 - win_rate


@pytest.mark.parametrize(
    ("low", "high", "excludes"),
    [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.1, False), (0, 0.2, False), (-0.2, 0, False)],
)
def test_an_interval_that_touches_zero_includes_it(low: float, high: float, excludes: bool) -> None:
    mean = (low + high) / 2
    assert PairedDifference(mean, low, high, 0.1, 0.5, 9).excludes_zero is excludes


def test_no_difference_at_all() -> None:
    values = np.array([31.0, 28.5, 40.25])
    found = paired_difference(values, values)
    assert (found.mean, found.low, found.high, found.win_rate) == (0, 0, 0, 0.5)
    assert not found.excludes_zero
