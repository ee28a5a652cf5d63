"""Probabilities of drawn sets against the sum over every order, for few items."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from otcache_plugin.calibration.learning.plackett_luce import draw, probabilities
from otcache_plugin.calibration.learning.reinforce import gradient_estimate

SIZES = [(5, 1), (5, 2), (7, 3), (7, 6)]


def every_set(items: int, size: int) -> NDArray[np.bool_]:
    found = list(itertools.combinations(range(items), size))
    members = np.zeros((len(found), items), dtype=np.bool_)
    for row, each in enumerate(found):
        members[row, list(each)] = True
    return members


def by_orders(scores: NDArray[np.float64], chosen: Sequence[int]) -> float:
    """One item after the other, in every order."""
    weights = np.exp(scores).tolist()
    total = 0.0
    for order in itertools.permutations(chosen):
        left, likely = set(range(len(weights))), 1.0
        for item in order:
            likely *= weights[item] / sum(weights[each] for each in left)
            left.remove(item)
        total += likely
    return total


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0, 15.0])
@pytest.mark.parametrize(("items", "size"), SIZES)
def test_a_set_is_as_likely_as_all_its_orders(items: int, size: int, spread: float) -> None:
    scores = spread * np.random.default_rng(items + size).normal(size=items)
    members = every_set(items, size)
    likely = np.exp(probabilities(scores, members).logs)
    expected = [by_orders(scores, np.flatnonzero(each).tolist()) for each in members]
    # The trapezoidal rule's error is below double rounding; the sums round some dozen times.
    np.testing.assert_allclose(likely, expected, rtol=1e-12)


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
@pytest.mark.parametrize(("items", "size"), SIZES)
def test_the_gradient_of_the_logarithm(items: int, size: int, spread: float) -> None:
    scores = spread * np.random.default_rng(items * size).normal(size=items)
    members = every_set(items, size)
    found = probabilities(scores, members).gradients
    step = 1e-5
    for item in range(items):
        moved = step * np.eye(items)[item]
        for row, each in enumerate(members):
            chosen = np.flatnonzero(each).tolist()
            up, down = (np.log(by_orders(scores + way, chosen)) for way in (moved, -moved))
            # Central differences of this step are off by some 1e-10 in either way.
            assert found[row, item] == pytest.approx((up - down) / (2 * step), abs=1e-8)


def test_many_items_and_unlikely_sets() -> None:
    """However unlikely: the worst ten of fifty, whose scores lie 30 below the others'."""
    scores = np.where(np.arange(50) < 10, -30.0, 0.0)
    likely = probabilities(scores, (np.arange(50) < 10)[None])
    # Each is drawn with a weight of e^-30 beside forty of 1: every order is as likely.
    expected = sum(np.log(number * np.exp(-30.0) / 40) for number in range(1, 11))
    assert likely.logs[0] == pytest.approx(expected, rel=1e-9)
    assert likely.gradients.sum() == pytest.approx(0.0, abs=1e-9)


def test_what_is_drawn_is_drawn_as_often_as_it_is_likely() -> None:
    scores = np.array([1.0, 0.0, -1.0, 0.5, 2.0])
    members = every_set(5, 2)
    drawn = draw(scores, 2, 20_000, np.random.default_rng(0))
    counts = (drawn[:, None, :] == members).all(axis=2).sum(axis=0)
    likely = np.exp(probabilities(scores, members).logs)
    assert counts.sum() == 20_000
    # Five standard deviations of a binomial count.
    assert (np.abs(counts - 20_000 * likely) < 5 * np.sqrt(20_000 * likely * (1 - likely))).all()


@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize(("items", "size"), [(4, 2), (5, 2), (5, 3)])
def test_the_estimates_mean_is_the_gradient(items: int, size: int, entropy: float) -> None:
    """The mean over every pair of sets that can be drawn, each as often as it is likely."""
    rng = np.random.default_rng(items)
    scores, members = rng.normal(size=items), every_set(items, size)
    losses = rng.normal(size=len(members))
    likely = np.exp(probabilities(scores, members).logs)
    mean = np.zeros(items)
    for one, other in itertools.product(range(len(members)), repeat=2):
        both = [one, other]
        estimate = gradient_estimate(scores, members[both], losses[both], entropy)
        mean += likely[one] * likely[other] * estimate

    def worth(at: NDArray[np.float64]) -> float:
        """The expected loss less what the entropy is worth, by every order of every set."""
        each = np.array([by_orders(at, np.flatnonzero(row).tolist()) for row in members])
        return float(each @ losses + entropy * each @ np.log(each))

    step = 1e-5
    for item in range(items):
        moved = step * np.eye(items)[item]
        expected = (worth(scores + moved) - worth(scores - moved)) / (2 * step)
        assert mean[item] == pytest.approx(expected, abs=1e-9)
