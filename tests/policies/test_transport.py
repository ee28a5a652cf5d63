"""Lifting, weighting, realising and projecting: worked by hand, and for every budget and run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from otcache_policies import (
    BudgetError,
    FieldError,
    Schedule,
    ScheduleError,
    geodesic_weights,
    lift,
    predict,
    project_sum,
    realise,
    wasserstein_barycentre,
)
from scipy.interpolate import PchipInterpolator

RandomSchedule = Callable[[np.random.Generator, int, int], Schedule]

EVERY_RUN = [(budget, total) for total in range(2, 101) for budget in range(2, total + 1)]


# Lifting


def test_lift_of_even_steps_is_a_straight_line() -> None:
    np.testing.assert_allclose(
        lift(Schedule([0, 4, 8, 12], 13)), np.linspace(0, 1, 1001), atol=1e-12
    )


def test_lift_goes_through_the_steps() -> None:
    # Progress 0, 1/4, …, 1 is every second of nine samples.
    mu = lift(Schedule([0, 1, 2, 5, 10], 11), resolution=9)
    np.testing.assert_allclose(mu[::2], [0, 0.1, 0.2, 0.5, 1], atol=1e-12)


def test_lift_rises_from_0_to_1_for_every_run(random_schedule: RandomSchedule) -> None:
    rng = np.random.default_rng(0)
    for budget, total in EVERY_RUN[::3]:
        mu = lift(random_schedule(rng, budget, total))
        assert mu[0] == 0
        assert mu[-1] == pytest.approx(1, abs=1e-12)
        assert (np.diff(mu) > 0).all()


def test_lift_is_the_interpolant_that_scipy_knows(random_schedule: RandomSchedule) -> None:
    rng = np.random.default_rng(7)
    progress = np.linspace(0, 1, 1001)
    for budget, total in EVERY_RUN[::3]:
        schedule = random_schedule(rng, budget, total)
        knots = np.array(schedule.computed_steps) / (total - 1)
        expected = PchipInterpolator(np.linspace(0, 1, budget), knots)(progress)
        np.testing.assert_allclose(lift(schedule), expected, rtol=0, atol=1e-14)


def test_lift_needs_two_steps_and_two_samples() -> None:
    with pytest.raises(ScheduleError, match="num_inference_steps=1: one step makes no curve"):
        lift(Schedule.full(1))
    with pytest.raises(ScheduleError, match="resolution=1: a curve has two ends"):
        lift(Schedule.full(5), resolution=1)


def test_realising_a_lift_gives_the_schedule_back_for_every_run(
    random_schedule: RandomSchedule,
) -> None:
    rng = np.random.default_rng(1)
    for budget, total in EVERY_RUN:
        schedule = random_schedule(rng, budget, total)
        assert realise(lift(schedule), budget, total, rho=1.0) == schedule.computed_steps


@pytest.mark.parametrize("budget", range(3, 100, 8))
def test_reading_a_curve_between_samples_keeps_to_the_documented_bound(budget: int) -> None:
    # One wide gap at the start, gaps of 1 behind it: as uneven as a schedule of 100 steps gets.
    schedule = Schedule([0, *range(101 - budget, 100)], 100)
    samples = np.linspace(0, 1, 1001)
    read = 99 * np.interp(np.linspace(0, 1, budget), samples, lift(schedule))
    bound = 1.25e-6 * max(schedule.gaps) * (budget - 1) ** 2
    assert np.abs(read - schedule.computed_steps).max() <= bound + 1e-9
    assert bound < 0.2


# Weights


def test_weights_of_the_worked_example() -> None:
    # log 8 / 3 = 0.6931 against log 20 / 11 = 0.2723.
    assert geodesic_weights(8, 20, 10) == pytest.approx((0.7179, 0.2821), abs=5e-5)


def test_weights_sum_to_one_and_move_to_the_reference() -> None:
    weights = [geodesic_weights(8, 20, budget) for budget in range(8, 21)]
    assert all(sum(pair) == pytest.approx(1) for pair in weights)
    to_reference = [pair[1] for pair in weights]
    assert to_reference == sorted(to_reference)


@pytest.mark.parametrize("budgets", [(1, 20), (8, 1)])
def test_weights_need_two_computed_steps(budgets: tuple[int, int]) -> None:
    with pytest.raises(BudgetError, match="=1: below 2"):
        geodesic_weights(*budgets, 5)


@pytest.mark.parametrize("budgets", [(8.0, 20, 10), (8, True, 10), (8, 20, 10.5)])
def test_weights_need_whole_budgets(budgets: tuple[int, int, int]) -> None:
    with pytest.raises(BudgetError, match="an integer is needed"):
        geodesic_weights(*budgets)


# Projecting


@pytest.mark.parametrize(
    ("positions", "steps"),
    [
        ([0, 1.4, 2.8, 10], (0, 1, 2, 10)),  # 1.4 1.4 7.2: 1 1 7, one missing, for the 7
        ([0, 0.5, 2, 4.5, 8], (0, 1, 3, 5, 8)),  # 0.5 1.5 2.5 3.5: 1 2 2 4, one too many
        ([0, 0.1, 0.2, 0.3, 5], (0, 1, 2, 3, 5)),  # 1 1 1 5: three too many, all from the 5
        ([0, 1.5, 3], (0, 1, 3)),  # 2 2: the earlier of two equal gaps shrinks
        ([0, 2.5, 5], (0, 2, 5)),  # 2 2: the later of two equal gaps grows
        ([0, 0, 0, 3], (0, 1, 2, 3)),
        ([0, 7], (0, 7)),
        ([0], (0,)),
    ],
)
def test_projection_by_hand(positions: list[float], steps: tuple[int, ...]) -> None:
    assert project_sum(positions) == steps


def test_missing_steps_go_one_each_to_the_largest_gaps() -> None:
    # Gaps 3.4 1.4 2.4 4.4 1.4 round to 3 1 2 4 1: two of 13 are missing, for 4.4 and 3.4.
    gaps = np.array([3.4, 1.4, 2.4, 4.4, 1.4])
    assert np.diff(project_sum([0, *gaps.cumsum()])).tolist() == [4, 1, 2, 5, 1]


def test_surplus_steps_come_from_what_is_largest_by_then() -> None:
    # Gaps 1.5 3.5 5.5 0.5 round to 2 4 6 1: two of 11 too many, both from the 6.
    gaps = np.array([1.5, 3.5, 5.5, 0.5])
    assert np.diff(project_sum([0, *gaps.cumsum()])).tolist() == [2, 4, 4, 1]


@pytest.mark.parametrize("noise", [-1e-12, 0, 1e-12])
def test_the_last_bits_of_a_half_do_not_matter(noise: float) -> None:
    assert project_sum([0, 2.5 + noise, 5]) == (0, 2, 5)


def test_projection_of_a_schedule_is_the_schedule(random_schedule: RandomSchedule) -> None:
    rng = np.random.default_rng(2)
    for budget, total in EVERY_RUN:
        schedule = random_schedule(rng, budget, total)
        noise = rng.uniform(-1e-11, 1e-11, budget) * ([0] + [1] * (budget - 2) + [0])
        assert project_sum(schedule.computed_steps + noise) == schedule.computed_steps


def test_projection_is_a_schedule_for_every_run() -> None:
    rng = np.random.default_rng(3)
    for budget, total in EVERY_RUN:
        # Powers crowd the positions at one end, so that many gaps are far below 1.
        inner = np.sort(rng.uniform(size=budget - 2) ** rng.choice([0.1, 1, 10])) * (total - 1)
        steps = project_sum([0, *inner, total - 1])
        assert Schedule(steps, total).budget == budget


@given(st.lists(st.floats(1, 30), min_size=1, max_size=40))
def test_wide_gaps_move_by_half_a_step_and_their_share(gaps: list[float]) -> None:
    total = round(sum(gaps)) + 1
    widths = np.array(gaps) * (total - 1) / sum(gaps)
    assume(widths.min() >= 1)
    positions = np.append(0, widths.cumsum())
    positions[-1] = total - 1
    moved = np.diff(project_sum(positions)) - np.diff(positions)
    # Half a step of rounding each, so the residual is at most half a step per gap.
    assert np.abs(moved).sum() <= len(gaps) + 1e-6


@pytest.mark.parametrize(
    ("positions", "problem"),
    [
        ([1, 3], "does not start at 0"),
        ([0, 3, 2, 5], "falls somewhere"),
        ([0, 1, 2.5], "3 steps cannot end at step 2.5"),
        ([0, 0.5, 1], "3 steps cannot end at step 1"),
        ([0, np.nan, 3], "not one row of finite numbers"),
        ([], "not one row of finite numbers"),
        ([[0, 1]], "not one row of finite numbers"),
        ("steps", "not an array of numbers"),
    ],
)
def test_refuses_other_positions(positions: object, problem: str) -> None:
    with pytest.raises(ScheduleError, match=problem) as caught:
        project_sum(positions)
    assert caught.value.field == "positions"


# Realising


def test_rho_bends_a_straight_line_as_computed_by_hand() -> None:
    # 8 (i/4)² is 0, 0.5, 2, 4.5, 8.
    line = np.linspace(0, 1, 1001)
    assert realise(line, 5, 9, rho=1.0) == (0, 2, 4, 6, 8)
    assert realise(line, 5, 9, rho=2.0) == (0, 1, 3, 5, 8)


def test_larger_rho_never_computes_later() -> None:
    line = np.linspace(0, 1, 1001)
    for budget in range(3, 41):
        sums = [sum(realise(line, budget, 50, rho)) for rho in (1.0, 1.3, 2.0, 3.0)]
        assert sums == sorted(sums, reverse=True)


@pytest.mark.parametrize("rho", [0, -1.0, float("nan"), float("inf"), "1.3", True])
def test_refuses_other_rho(rho: float) -> None:
    with pytest.raises(FieldError, match=r"Use a number such as rho=1\.3") as caught:
        realise([0, 1], 5, 9, rho)
    assert caught.value.field == "rho"


@pytest.mark.parametrize("budget", [0, 1, 10, True, 5.0])
def test_refuses_budgets_beyond_the_run(budget: int) -> None:
    with pytest.raises(BudgetError, match=r"Use budget=2 … 9\."):
        realise([0, 1], budget, 9, rho=1.0)


@pytest.mark.parametrize("mu", [[0, 0.9], [0.1, 1], [0, 0.6, 0.5, 1], [0], [0, np.inf]])
def test_refuses_other_curves(mu: list[float]) -> None:
    with pytest.raises(ScheduleError, match="mu="):
        realise(mu, 3, 9, rho=1.0)


# Predicting


def test_prediction_between_even_schedules_is_even() -> None:
    anchor, reference = Schedule([0, 4, 8], 9), Schedule.full(9)
    assert predict(anchor, reference, 5, rho=1.0) == (0, 2, 4, 6, 8)


def test_prediction_worked_by_hand() -> None:
    """Budget 5 between 3 and 9: the weights are (log 3)/3 and (log 9)/5, that is 5/11 and 6/11.

    The anchor's curve is a straight line and the points 1/4, 2/4, 3/4 are knots of the reference:
    (5·4 + 6·2)/11 = 2.91, (5·8 + 6·4)/11 = 5.82, (5·12 + 6·8)/11 = 9.82. The gaps 2.91, 2.91,
    4 and 6.18 round to 3, 3, 4 and 6.
    """
    anchor = Schedule([0, 8, 16], 17)
    reference = Schedule([0, 1, 2, 3, 4, 6, 8, 12, 16], 17)
    assert geodesic_weights(3, 9, 5) == pytest.approx((5 / 11, 6 / 11))
    assert predict(anchor, reference, 5, rho=1.0) == (0, 3, 6, 10, 16)


def test_calibrated_budgets_give_the_calibrated_steps() -> None:
    anchor, reference = Schedule([0, 1, 2, 16], 17), Schedule([0, 3, 5, 6, 9, 16], 17)
    assert predict(anchor, reference, 4, rho=1.3) == anchor.computed_steps
    assert predict(anchor, reference, 6, rho=1.3) == reference.computed_steps


@pytest.mark.parametrize("rho", [1.0, 1.3])
def test_predictions_are_schedules_for_every_run(
    random_schedule: RandomSchedule, rho: float
) -> None:
    rng = np.random.default_rng(4)
    for budget, total in EVERY_RUN[::2]:
        if 2 < budget < total:
            anchor = random_schedule(rng, int(rng.integers(2, budget)), total)
            reference = random_schedule(rng, int(rng.integers(budget + 1, total + 1)), total)
            steps = predict(anchor, reference, budget, rho)
            assert Schedule(steps, total).budget == budget


@pytest.mark.parametrize(
    ("budget", "predicted", "uniform"),
    [(15, 0.9333, 5.7333), (17, 0.9412, 6.1765), (20, 0.45, 5.6)],
)
def test_predictions_meet_the_published_schedules(
    published: dict[str, dict[int, Schedule]], budget: int, predicted: float, uniform: float
) -> None:
    """From two published budgets the others follow, to within a step; even spacing does not."""
    model = published["Tongyi-MAI/Z-Image"]
    expected = np.array(model[budget].computed_steps)
    steps = predict(model[13], model[25], budget, rho=1.0)
    assert np.abs(steps - expected).mean() == pytest.approx(predicted, abs=1e-4)
    even = np.rint(np.linspace(0, 49, budget))
    assert np.abs(even - expected).mean() == pytest.approx(uniform, abs=1e-4)


@pytest.mark.parametrize("budget", [2, 7, 17, True, 4.0])
def test_refuses_budgets_outside_the_calibrated(budget: int) -> None:
    with pytest.raises(BudgetError, match=r"budget=.*Use budget=3 … 6\."):
        predict(Schedule([0, 8, 16], 17), Schedule([0, 3, 5, 6, 9, 16], 17), budget, rho=1.3)


def test_refuses_endpoints_that_do_not_belong_together() -> None:
    anchor, reference = Schedule([0, 8, 16], 17), Schedule([0, 3, 5, 6, 9, 16], 17)
    with pytest.raises(ScheduleError, match="budget 6 is not below the reference's 3"):
        predict(reference, anchor, 4, rho=1.3)
    with pytest.raises(ScheduleError, match="budget 3 is not below the reference's 3"):
        predict(anchor, anchor, 3, rho=1.3)
    with pytest.raises(ScheduleError, match="it has 18 steps, the anchor 17"):
        predict(anchor, Schedule.full(18), 4, rho=1.3)


# Barycentre


def test_barycentre_by_hand() -> None:
    # The knots lie at the same progress, so the steps themselves are averaged.
    early, late = Schedule([0, 2, 4, 12], 13), Schedule([0, 4, 8, 12], 13)
    assert wasserstein_barycentre([early, late], 4) == (0, 3, 6, 12)


def test_barycentre_of_one_schedule_is_the_schedule() -> None:
    schedule = Schedule([0, 1, 3, 7, 14, 21, 28, 35, 42, 49], 50)
    assert wasserstein_barycentre([schedule], 10) == schedule.computed_steps
    assert wasserstein_barycentre([schedule] * 3, 10) == schedule.computed_steps


def test_barycentre_does_not_depend_on_the_order(random_schedule: RandomSchedule) -> None:
    rng = np.random.default_rng(5)
    pool = [random_schedule(rng, 8, 50) for _ in range(5)]
    assert wasserstein_barycentre(pool, 8) == wasserstein_barycentre(pool[::-1], 8)


def test_barycentre_needs_schedules_of_one_run() -> None:
    with pytest.raises(ScheduleError, match="0 different numbers of steps"):
        wasserstein_barycentre([], 4)
    with pytest.raises(ScheduleError, match="2 different numbers of steps"):
        wasserstein_barycentre([Schedule.full(5), Schedule.full(6)], 4)


def test_results_are_plain_python() -> None:
    steps = predict(Schedule([0, 8, 16], 17), Schedule.full(17), 9, 1.3)
    assert {type(step) for step in steps} == {int}
    assert {type(weight) for weight in geodesic_weights(8, 20, 10)} == {float}
