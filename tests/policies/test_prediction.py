"""Predictions that go over into the calibrated schedules, and the paper's, which do not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otcache_policies import (
    BudgetError,
    FieldError,
    Schedule,
    ScheduleError,
    constant_warp,
    geodesic_weights,
    lift,
    predict,
    realise,
    vanishing_warp,
)
from otcache_policies.prediction import position, vanishing_curve

RandomSchedule = Callable[[np.random.Generator, int, int], Schedule]

SMALLER = Schedule([0, 8, 16], 17, [2, 3])
LARGER = Schedule([0, 1, 2, 3, 4, 6, 8, 12, 16], 17, [1, 1, 1, 1, 4, 5, 6, 2])


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Wasserstein distance of two quantile functions."""
    return float(np.abs(one - other).mean())


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[Schedule, Schedule]:
    """Two schedules of the same run, the first with fewer computed steps."""
    total = draw(st.integers(4, 50))
    budgets = sorted(draw(st.sets(st.integers(2, total), min_size=2, max_size=2)))
    found = []
    for budget in budgets:
        inner = draw(st.permutations(range(1, total - 1)))[: budget - 2]
        look_backs = draw(st.lists(st.integers(1, 6), min_size=budget - 1, max_size=budget - 1))
        found.append(Schedule([0, *sorted(inner), total - 1], total, look_backs))
    return found[0], found[1]


@settings(max_examples=40)
@given(neighbours(), st.floats(0.3, 3.0))
def test_neighbouring_budgets_never_jump_by_more_than_the_calibrated_differ(
    schedules: tuple[Schedule, Schedule], rho: float
) -> None:
    """In their curves; what a schedule adds is the rounding of its gaps."""
    smaller, larger = schedules
    curves = [
        vanishing_curve(smaller, larger, budget, rho)
        for budget in range(smaller.budget, larger.budget + 1)
    ]
    largest = apart(lift(smaller), lift(larger))
    for one, other in pairwise(curves):
        assert apart(one, other) <= largest + 1e-12


@settings(max_examples=40)
@given(neighbours(), st.floats(0.3, 3.0))
def test_the_warp_vanishes_at_both_schedules(
    schedules: tuple[Schedule, Schedule], rho: float
) -> None:
    """A curve is no further from a schedule's than twice its share of the way to the other one."""
    smaller, larger = schedules
    whole = apart(lift(smaller), lift(larger))
    for budget in range(smaller.budget, larger.budget + 1):
        curve = vanishing_curve(smaller, larger, budget, rho)
        share = position(smaller.budget, larger.budget, budget)
        assert apart(curve, lift(smaller)) <= 2 * share * whole + 1e-12
        assert apart(curve, lift(larger)) <= 2 * (1 - share) * whole + 1e-12
        assert (np.diff(curve) > -1e-12).all()
    assert vanishing_warp(smaller, larger, smaller.budget, rho) is smaller
    assert vanishing_warp(smaller, larger, larger.budget, rho) is larger


def test_the_paper_s_warp_jumps_beside_a_calibrated_schedule() -> None:
    """Between two schedules of the same curve every one is warped, as if they were not there."""
    smaller, larger = Schedule(range(0, 51, 5), 51), Schedule(range(0, 51, 2), 51)
    line = np.linspace(0, 1, 1001)
    assert apart(lift(smaller), lift(larger)) < 1e-12
    for budget in (12, 18, 25):
        even = realise(line, budget, 51, rho=1.0)
        assert vanishing_warp(smaller, larger, budget, 1.3).computed_steps == even
        papers = constant_warp(smaller, larger, budget, 1.3).computed_steps
        assert papers == realise(line, budget, 51, rho=1.3)
        assert np.abs(np.array(papers) - even).max() >= 3


def test_the_position_is_eq_9_stretched_from_0_to_1() -> None:
    """Weights of the reference at 8, 10 and 20: 0.0998, 0.2821 and 0.9493."""
    weights = [geodesic_weights(8, 20, budget)[1] for budget in (8, 10, 20)]
    assert weights == pytest.approx([0.0998, 0.2821, 0.9493], abs=5e-5)
    expected = (weights[1] - weights[0]) / (weights[2] - weights[0])
    assert position(8, 20, 10) == pytest.approx(expected)
    assert (position(8, 20, 8), position(8, 20, 20)) == (0, 1)


def test_steps_worked_by_hand() -> None:
    """Budget 5 between 3 and 9, whose curves are a line and 0 1 2 3 4 6 8 12 16 at its knots.

    The larger one's weight by Eq. 9 at 3, 5 and 9 is 2/9, 6/11 and 14/15: with log 9 = 2 log 3 that
    is (2/7)/(1 + 2/7), (2/5)/(1/3 + 2/5) and 2/(1/7 + 2). So w = (6/11 - 2/9)/(14/15 - 2/9) = 5/11,
    and the steps of a quarter, a half and three quarters are 4 - 2w, 8 - 4w and 12 - 4w.
    """
    w = 5 / 11
    assert position(3, 9, 5) == pytest.approx(w)
    curve = vanishing_curve(SMALLER, LARGER, 5, 1.0)
    np.testing.assert_allclose(
        16 * curve[[250, 500, 750]], [4 - 2 * w, 8 - 4 * w, 12 - 4 * w], atol=1e-9
    )
    # Gaps 3.09, 3.09, 4 and 5.82.
    assert vanishing_warp(SMALLER, LARGER, 5, 1.0).computed_steps == (0, 3, 6, 10, 16)


def test_the_warp_worked_by_hand() -> None:
    """Its exponent is rho halfway, and 1 + (rho - 1) 120/121 at w = 5/11.

    The smaller one's curve is a line, the larger one's begins as half as steep a line.
    """
    w, rho = 5 / 11, 1.1
    curve = vanishing_curve(SMALLER, LARGER, 5, rho)
    for place in (100, 200, 400):
        warped = (place / 1000) ** (1 + (rho - 1) * 120 / 121)
        # The curve is interpolated between a thousand points.
        expected = (1 - w) * warped + w * warped / 2
        assert curve[place] == pytest.approx(expected, abs=1e-5)


def test_a_strong_warp_moves_no_further_than_the_nearer_schedule_lies() -> None:
    for budget, share in ((5, 5 / 11), (7, 1 - position(3, 9, 7))):
        even, warped = (vanishing_curve(SMALLER, LARGER, budget, rho) for rho in (1.0, 9.0))
        expected = share * apart(lift(SMALLER), lift(LARGER))
        assert apart(warped, even) == pytest.approx(expected)


def test_look_backs_are_the_nearer_schedule_s() -> None:
    """5 is nearer to 3, its middles 1.5, 4.5, 8 and 13 lie in 0 … 8 twice and in 8 … 16 twice."""
    assert position(3, 9, 5) < 0.5 < position(3, 9, 6)
    assert vanishing_warp(SMALLER, LARGER, 5, 1.0).look_backs == (2, 2, 3, 3)
    later = vanishing_warp(SMALLER, LARGER, 6, 1.0)
    for segment in later.segments:
        middle = (segment.start + segment.end) / 2
        (own,) = (each for each in LARGER.segments if each.start <= middle < each.end)
        assert segment.look_back == (own.look_back if segment.gap > 1 else 1)


@settings(max_examples=40)
@given(neighbours(), st.floats(0.3, 3.0))
def test_the_paper_s_prediction_is_eqs_8_to_10(
    schedules: tuple[Schedule, Schedule], rho: float
) -> None:
    smaller, larger = schedules
    for budget in range(smaller.budget + 1, larger.budget):
        steps = predict(smaller, larger, budget, rho)
        assert constant_warp(smaller, larger, budget, rho).computed_steps == steps


def test_predictions_are_schedules_for_every_run(random_schedule: RandomSchedule) -> None:
    rng = np.random.default_rng(4)
    for total in range(4, 101, 3):
        budgets = sorted(rng.choice(np.arange(2, total + 1), 2, replace=False).tolist())
        smaller, larger = (random_schedule(rng, budget, total) for budget in budgets)
        for budget in range(budgets[0], budgets[1] + 1, 3):
            assert vanishing_warp(smaller, larger, budget, 1.3).budget == budget


def test_refusals() -> None:
    with pytest.raises(BudgetError, match=r"budget=2.*Use budget=3 … 9\."):
        vanishing_warp(SMALLER, LARGER, 2, 1.3)
    with pytest.raises(ScheduleError, match="budget 9 is not below the reference's 3"):
        vanishing_warp(LARGER, SMALLER, 5, 1.3)
    with pytest.raises(FieldError, match=r"Use a number such as rho=1\.3"):
        vanishing_warp(SMALLER, LARGER, 5, 0.0)
