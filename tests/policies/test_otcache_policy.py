"""The OTCache policy: calibrated schedules as they are, predicted between, graph policy above."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from gram_tables import smooth_table
from hypothesis import given, settings
from hypothesis import strategies as st
from otcache_policies import (
    BudgetError,
    EdgeSettings,
    EdgeTable,
    EdgeTableError,
    FieldError,
    GramPolicy,
    MeanCachePolicy,
    OTCachePolicy,
    Policy,
    Schedule,
    ScheduleError,
    constant_warp,
    predict,
    vanishing_warp,
)
from otcache_policies.testing import PolicyConformance

MakeTable = Callable[..., EdgeTable]
RandomSchedule = Callable[[np.random.Generator, int, int], Schedule]

ANCHOR = Schedule([0, 8, 16], 17, [2, 3])
WAYPOINT = Schedule([0, 2, 6, 10, 16], 17, [4, 5, 6, 7])
REFERENCE = Schedule([0, 1, 2, 3, 4, 6, 8, 12, 16], 17, [1, 1, 1, 1, 4, 5, 6, 2])


def inherited(schedule: Schedule, origin: Schedule) -> list[int]:
    """Look-backs of the origin's segments that a schedule's midpoints lie in; 1 for gaps of 1."""
    found = []
    for segment in schedule.segments:
        middle = (segment.start + segment.end) / 2
        (own,) = (each for each in origin.segments if each.start <= middle < each.end)
        found.append(own.look_back if segment.gap > 1 else 1)
    return found


def test_calibrated_budgets_give_the_calibrated_schedules(make_table: MakeTable) -> None:
    for edges in (None, make_table(17)):
        policy = OTCachePolicy(ANCHOR, REFERENCE, edges=edges, waypoints=(WAYPOINT,))
        assert policy.calibrated == (ANCHOR, WAYPOINT, REFERENCE)
        assert policy.schedule(3) is ANCHOR
        assert policy.schedule(5) is WAYPOINT
        assert policy.schedule(9) is REFERENCE
        assert policy.schedule(17) == Schedule.full(17)


def test_a_reference_of_every_step_stays_the_reference() -> None:
    reference = Schedule(range(17), 17, [2] * 16)
    assert OTCachePolicy(ANCHOR, reference).schedule(17) is reference


def test_steps_between_are_the_prediction(make_table: MakeTable) -> None:
    for rho in (1.0, 1.3):
        for edges in (None, make_table(17)):
            policy = OTCachePolicy(ANCHOR, REFERENCE, rho, edges)
            assert policy.calibrated == (ANCHOR, REFERENCE)
            for budget in range(4, 9):
                expected = vanishing_warp(ANCHOR, REFERENCE, budget, rho)
                assert policy.schedule(budget) == expected
                papers = replace(policy, warp=constant_warp).schedule(budget)
                assert papers.computed_steps == predict(ANCHOR, REFERENCE, budget, rho)


def test_with_a_waypoint_the_prediction_is_between_neighbours(make_table: MakeTable) -> None:
    for edges in (None, make_table(17)):
        policy = OTCachePolicy(ANCHOR, REFERENCE, 1.3, edges, waypoints=(WAYPOINT,))
        assert policy.schedule(4) == vanishing_warp(ANCHOR, WAYPOINT, 4, 1.3)
        for budget in (6, 7, 8):
            steps = policy.schedule(budget).computed_steps
            expected = vanishing_warp(WAYPOINT, REFERENCE, budget, 1.3)
            assert steps == expected.computed_steps
            steps = replace(policy, warp=constant_warp).schedule(budget).computed_steps
            assert steps == predict(WAYPOINT, REFERENCE, budget, 1.3)
            assert steps != predict(ANCHOR, REFERENCE, budget, 1.3)


def test_by_the_paper_look_backs_are_inherited_from_the_smaller_schedule(
    make_table: MakeTable,
) -> None:
    for edges in (None, make_table(17)):
        policy = OTCachePolicy(ANCHOR, REFERENCE, 1.0, edges, warp=constant_warp)
        # Middles 1.5, 4.5, 8 and 13: the last two lie in the anchor's second segment, 8 … 16.
        assert policy.schedule(5) == Schedule([0, 3, 6, 10, 16], 17, [2, 2, 3, 3])
        for budget in range(4, 9):
            schedule = policy.schedule(budget)
            assert list(schedule.look_backs) == inherited(schedule, ANCHOR)


def test_a_waypoint_passes_its_look_backs_on(make_table: MakeTable) -> None:
    for edges in (None, make_table(17)):
        path = {"waypoints": (WAYPOINT,), "warp": constant_warp}
        policy = OTCachePolicy(ANCHOR, REFERENCE, 1.0, edges, **path)
        below = policy.schedule(4)
        assert list(below.look_backs) == inherited(below, ANCHOR)
        # Middles 1, 3, 5.5, 9 and 13.5: in the waypoint's 0 … 2, 2 … 6 twice, 6 … 10, 10 … 16.
        assert policy.schedule(6) == Schedule([0, 2, 4, 7, 11, 16], 17, [4, 5, 5, 6, 7])
        for budget in (7, 8):
            schedule = policy.schedule(budget)
            assert list(schedule.look_backs) == inherited(schedule, WAYPOINT)


@st.composite
def paths(draw: st.DrawFn) -> tuple[int, list[int], int]:
    """Steps of a run, two to six increasing budgets of it, and a seed for their schedules."""
    total = draw(st.integers(4, 40))
    budgets = draw(st.sets(st.integers(2, total), min_size=2, max_size=6))
    return total, sorted(budgets), draw(st.integers(0, 2**32 - 1))


@settings(max_examples=60)
@given(path=paths(), rho=st.floats(0.5, 2.0))
def test_every_budget_of_any_path_is_a_schedule(
    random_schedule: RandomSchedule, path: tuple[int, list[int], int], rho: float
) -> None:
    total, budgets, seed = path
    rng = np.random.default_rng(seed)
    calibrated = {budget: random_schedule(rng, budget, total) for budget in budgets}
    anchor, *waypoints, reference = calibrated.values()
    policy = OTCachePolicy(anchor, reference, rho, waypoints=tuple(waypoints))
    papers = replace(policy, warp=constant_warp)
    assert set(policy.budgets) == {*range(budgets[0], budgets[-1] + 1), total}
    for budget in range(budgets[0], budgets[-1] + 1):
        schedule = policy.schedule(budget)
        assert (schedule.budget, schedule.num_inference_steps) == (budget, total)
        if budget in calibrated:
            assert schedule is calibrated[budget]
            continue
        smaller = calibrated[max(each for each in budgets if each < budget)]
        larger = calibrated[min(each for each in budgets if each > budget)]
        assert schedule == vanishing_warp(smaller, larger, budget, rho)
        schedule = papers.schedule(budget)
        assert schedule.computed_steps == predict(smaller, larger, budget, rho)
        assert list(schedule.look_backs) == inherited(schedule, smaller)


class TestConformanceWithWaypoints(PolicyConformance):
    """The published suite, for a path of four schedules."""

    def make_policy(self, num_inference_steps: int) -> Policy:
        rng = np.random.default_rng(num_inference_steps)
        inner = np.arange(1, num_inference_steps - 1)
        anchor, *waypoints, reference = (
            Schedule(
                [0, *sorted(rng.choice(inner, budget - 2, replace=False)), num_inference_steps - 1],
                num_inference_steps,
                rng.integers(1, 7, budget - 1),
            )
            for budget in (3, 5, 8, 11)
        )
        return OTCachePolicy(anchor, reference, waypoints=tuple(waypoints))


def test_waypoints_are_kept_as_a_tuple() -> None:
    policy = OTCachePolicy(ANCHOR, REFERENCE, waypoints=[WAYPOINT])  # type: ignore[arg-type]
    assert policy.waypoints == (WAYPOINT,)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(policy) == hash(OTCachePolicy(ANCHOR, REFERENCE, waypoints=(WAYPOINT,)))
    assert policy != OTCachePolicy(ANCHOR, REFERENCE)


@pytest.mark.parametrize(
    ("waypoints", "field", "words"),
    [
        ([Schedule.full(18)], "waypoints[0]", "not of the anchor's 17 steps"),
        ([WAYPOINT, Schedule([0, 5, 10, 12, 13, 15], 16)], "waypoints[1]", "17 steps"),
        ([ANCHOR], "waypoints[0]", "its budget 3 is out of order"),
        ([REFERENCE], "waypoints[0]", "its budget 9 is out of order"),
        ([Schedule([0, 16], 17)], "waypoints[0]", "its budget 2 is out of order"),
        ([WAYPOINT, WAYPOINT], "waypoints[1]", "its budget 5 is out of order"),
        ([WAYPOINT, Schedule([0, 1, 2, 16], 17)], "waypoints[1]", "budget 4 is out of order"),
    ],
)
def test_waypoints_that_do_not_fit(waypoints: list[Schedule], field: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words) as caught:
        OTCachePolicy(ANCHOR, REFERENCE, waypoints=tuple(waypoints))
    assert caught.value.field == field


def test_above_the_reference_the_graph_policy_serves(make_table: MakeTable) -> None:
    table, settings = make_table(17), EdgeSettings("velocity", gamma=2.0)
    policy = OTCachePolicy(ANCHOR, REFERENCE, edges=table, settings=settings)
    graph = MeanCachePolicy(table, settings)
    for budget in range(10, 17):
        assert policy.schedule(budget) == graph.schedule(budget)


def test_budgets_reach_as_far_as_the_calibration(make_table: MakeTable) -> None:
    assert str(OTCachePolicy(ANCHOR, REFERENCE).budgets) == "3 … 9, or 17"
    assert str(OTCachePolicy(ANCHOR, REFERENCE, edges=make_table(17)).budgets) == "3 … 17"


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        (2, "below the smallest budget 3 of policy 'otcache'"),
        (10, "above the largest budget 9 of policy 'otcache'"),
        (18, "above the 17 steps of the run"),
        (5.0, "an integer is needed, not float"),
    ],
)
def test_other_budgets_are_refused_with_the_served_ones(budget: int, problem: str) -> None:
    with pytest.raises(BudgetError) as caught:
        OTCachePolicy(ANCHOR, REFERENCE).schedule(budget)
    assert str(caught.value) == f"budget={budget}: {problem}. Use budget=3 … 9, or 17."


def test_refuses_what_does_not_belong_together(make_table: MakeTable) -> None:
    with pytest.raises(ScheduleError, match=r"anchor=.*is not below"):
        OTCachePolicy(REFERENCE, ANCHOR)
    with pytest.raises(ScheduleError, match=r"reference=.*it has 18 steps"):
        OTCachePolicy(ANCHOR, Schedule.full(18))
    with pytest.raises(EdgeTableError, match="not a table of the schedules' 17 steps"):
        OTCachePolicy(ANCHOR, REFERENCE, edges=make_table(16))
    with pytest.raises(EdgeTableError, match="look_back=9"):
        OTCachePolicy(ANCHOR, REFERENCE, edges=make_table(17), settings=EdgeSettings(look_back=9))
    with pytest.raises(FieldError, match=r"rho=0\.0: not a finite number above 0"):
        OTCachePolicy(ANCHOR, REFERENCE, rho=0.0)


def test_pickling_keeps_the_schedules(make_table: MakeTable) -> None:
    policy = OTCachePolicy(ANCHOR, REFERENCE, edges=make_table(17))
    again = pickle.loads(pickle.dumps(policy))
    for budget in policy.budgets:
        assert again.schedule(budget).to_json() == policy.schedule(budget).to_json()


def test_look_backs_of_published_schedules_survive(
    published: dict[str, dict[int, Schedule]],
) -> None:
    model = published["Tongyi-MAI/Z-Image"]
    policy = OTCachePolicy(model[13], model[25], rho=1.0, warp=constant_warp)
    # Published at budget 13 are K = 2 over 3→5, K = 5 over 43→47 and K = 2 over 47→49. Predicted
    # at 20 are 3→4→5, without a cached step, and 43→46→48 with middles 44.5 and 47.
    segments = policy.schedule(20).segments
    assert {(each.start, each.end): each.look_back for each in segments if each.look_back > 1} == {
        (43, 46): 5,
        (46, 48): 2,
    }


def test_all_published_schedules_are_given_back(
    published: dict[str, dict[int, Schedule]],
) -> None:
    for schedules in published.values():
        anchor, *waypoints, reference = (schedules[budget] for budget in sorted(schedules))
        policy = OTCachePolicy(anchor, reference, rho=1.0, waypoints=tuple(waypoints))
        for budget, schedule in schedules.items():
            assert policy.schedule(budget) == schedule


def test_one_schedule_alone_serves_its_budget() -> None:
    policy = OTCachePolicy(ANCHOR, ANCHOR)
    assert policy.calibrated == (ANCHOR,)
    assert list(policy.budgets) == [3, 17]
    assert policy.schedule(3) is ANCHOR


def test_runs_of_other_noise_levels_are_the_other_policy_s() -> None:
    sigmas = np.linspace(1, 0, 10)
    alone = OTCachePolicy(ANCHOR, REFERENCE)
    assert alone.schedule_at(4, sigmas, np.diff(sigmas)) is None
    gram = GramPolicy(smooth_table(1, 9, 0))
    both = replace(alone, other_runs=gram)
    assert both.schedule_at(4, sigmas, np.diff(sigmas)) is gram.schedule_at(
        4, sigmas, np.diff(sigmas)
    )
