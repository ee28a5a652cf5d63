"""A verdict is a trimmed mean with Yuen's standard error: by hand, and as SciPy has it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import trim_mean, ttest_ind

from otcache_plugin.calibration.racing.verdict import Verdict, verdict_of


def test_by_hand() -> None:
    """One of eight pairs is left out at either end: 1 … 6 are kept, 1 1 2 3 4 5 6 6 winsorised.

    These are 2.5, 2.5, 1.5, 0.5, … from their mean, 3.5: squares of 30 in all, over 6 * 5.
    """
    gained = np.array([3.0, 100.0, 1.0, 0.0, 6.0, 2.0, 5.0, 4.0])
    verdict = verdict_of(10.0 + gained, np.full(8, 10.0))
    assert verdict == Verdict(gain=3.5, standard_error=1.0, pairs=8)
    assert verdict.ahead
    # What is ahead the other way round is behind.
    assert verdict_of(np.full(8, 10.0), 10.0 + gained) == Verdict(-3.5, 1.0, 8)


@pytest.mark.parametrize("count", [8, 16, 24, 48])
def test_as_scipy_has_it(count: int) -> None:
    rng = np.random.default_rng(count)
    simpler, challenger = rng.normal(1.0, 2.0, count), rng.standard_t(2, count)
    differences = simpler - challenger
    verdict = verdict_of(simpler, challenger)
    assert verdict.gain == pytest.approx(trim_mean(differences, 1 / 8), rel=1e-12)
    yuen = ttest_ind(differences, np.zeros(count), equal_var=False, trim=1 / 8)
    assert verdict.gain / verdict.standard_error == pytest.approx(yuen.statistic, rel=1e-9)
    assert verdict.pairs == count


def test_one_pair_that_tips_decides_nothing() -> None:
    challenger = np.full(8, 0.9)
    tipped = challenger.copy()
    tipped[3] = 1000.0
    simpler = np.linspace(1.0, 1.1, 8)
    assert verdict_of(simpler, challenger).ahead
    assert verdict_of(simpler, tipped).ahead


def test_the_same_losses_are_not_ahead() -> None:
    losses = np.linspace(0.0, 1.0, 8)
    verdict = verdict_of(losses, losses)
    assert verdict == Verdict(0.0, 0.0, 8)
    assert not verdict.ahead


def test_ahead_is_beyond_the_standard_error() -> None:
    assert not Verdict(1.0, 1.0, 8).ahead
    assert Verdict(1.01, 1.0, 8).ahead
    assert not Verdict(-3.0, 1.0, 8).ahead


def test_the_fewest_pairs() -> None:
    """Two of four are kept; winsorised they are 1 1 2 2: squares of 1 in all, over 2 * 1."""
    verdict = verdict_of(np.array([0.0, 1.0, 2.0, 9.0]), np.zeros(4))
    assert verdict.gain == 1.5
    assert verdict.standard_error == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize("value", [np.inf, np.nan, -np.inf])
def test_a_loss_that_is_not_finite_is_the_worst(value: float) -> None:
    fine, spoilt = np.ones(8), np.zeros(8)
    spoilt[5] = value
    behind, ahead = verdict_of(fine, spoilt), verdict_of(spoilt, fine)
    assert behind == Verdict(-np.inf, 0.0, 8)
    assert not behind.ahead
    assert ahead == Verdict(np.inf, 0.0, 8)
    assert ahead.ahead
