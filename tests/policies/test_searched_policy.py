"""Searched schedules, and what is predicted between them."""

from __future__ import annotations

import pytest
from otcache_policies import BudgetError, Schedule, ScheduleError, SearchedPolicy, UniformPolicy
from otcache_policies.prediction import vanishing_warp
from otcache_policies.testing import PolicyConformance

EARLY = Schedule([0, 1, 2, 11], 12, [1, 1, 3])
LATE = Schedule([0, 5, 6, 7, 8, 9, 10, 11], 12, [2, 1, 1, 1, 1, 1, 1])


class TestSeveral(PolicyConformance):
    def make_policy(self, num_inference_steps: int) -> SearchedPolicy:
        uniform = UniformPolicy(num_inference_steps, look_back=2)
        return SearchedPolicy(tuple(map(uniform.schedule, (4, 6, 11))), "annealed")


class TestOne(PolicyConformance):
    steps_to_try = (12,)

    def make_policy(self, num_inference_steps: int) -> SearchedPolicy:
        return SearchedPolicy((EARLY,), "annealed")


def test_a_searched_schedule_is_itself_and_another_budget_lies_between() -> None:
    policy = SearchedPolicy((EARLY, LATE), "annealed")
    assert (policy.schedule(4), policy.schedule(8)) == (EARLY, LATE)
    for budget in (5, 6, 7):
        assert policy.schedule(budget) == vanishing_warp(EARLY, LATE, budget, 1.0)
    with pytest.raises(BudgetError, match="annealed"):
        policy.schedule(9)


@pytest.mark.parametrize(
    "schedules", [(), (LATE, EARLY), (EARLY, EARLY), (EARLY, UniformPolicy(13).schedule(8))]
)
def test_schedules_that_make_no_policy(schedules: tuple[Schedule, ...]) -> None:
    with pytest.raises(ScheduleError) as caught:
        SearchedPolicy(schedules, "annealed")
    assert caught.value.field == "schedules"
