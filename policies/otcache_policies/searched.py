"""A policy of schedules that were searched at some budgets, whatever found them.

A search is for one budget. Between two that were searched, a schedule is predicted from both by
optimal transport, without a warp: no search's result, but every budget in between is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from otcache_policies.errors import ScheduleError
from otcache_policies.policy import Budgets
from otcache_policies.prediction import vanishing_warp
from otcache_policies.schedule import Schedule

__all__ = ["SearchedPolicy"]


@dataclass(frozen=True)
class SearchedPolicy:
    """Searched schedules, and predictions between them.

    Args:
        schedules: The schedules, by increasing budget and for the same number of steps.
        name: Name of the policy, after the search that found them.

    Raises:
        ScheduleError: There is no schedule, they differ in steps, or their budgets do not increase.
    """

    schedules: tuple[Schedule, ...]
    name: str

    def __post_init__(self) -> None:
        if not self.schedules:
            raise ScheduleError("schedules", (), "no schedule was found", "Give one or more")
        for smaller, larger in pairwise(self.schedules):
            if larger.num_inference_steps != smaller.num_inference_steps:
                total = smaller.num_inference_steps
                problem, remedy = f"not of {total} steps", "Give schedules of the same runs"
                raise ScheduleError("schedules", larger, problem, remedy)
            if larger.budget <= smaller.budget:
                problem = f"of budget {larger.budget}, after one of {smaller.budget}"
                raise ScheduleError("schedules", larger, problem, "Give them by increasing budget")

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that the schedules are for."""
        return self.schedules[0].num_inference_steps

    @property
    def budgets(self) -> Budgets:
        """From the smallest to the largest that was searched, and T."""
        smallest, largest = self.schedules[0], self.schedules[-1]
        return Budgets(smallest.budget, largest.budget, self.num_inference_steps)

    def schedule(self, budget: int) -> Schedule:
        """Return the schedule that was found, or the prediction from its two neighbours.

        Raises:
            BudgetError: The budget is not among `budgets`.
        """
        budget = self.budgets.require(budget, self.name)
        if budget == self.num_inference_steps:
            return Schedule.full(budget)
        for schedule in self.schedules:
            if budget == schedule.budget:
                return schedule
        smaller, larger = next(
            pair for pair in pairwise(self.schedules) if pair[0].budget < budget < pair[1].budget
        )
        return vanishing_warp(smaller, larger, budget, rho=1.0)
