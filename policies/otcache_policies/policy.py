"""What a policy is: a way to get a schedule for a budget, and the budgets that it serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from otcache_policies._validation import as_count, as_int, as_positive
from otcache_policies.errors import BudgetError
from otcache_policies.schedule import Schedule

__all__ = ["AdaptingPolicy", "Budgets", "Policy", "budget_for_speedup"]


@dataclass(frozen=True)
class Budgets:
    """The budgets that a policy serves: a range, and always every step of the run.

    Args:
        smallest: Smallest budget.
        largest: Largest budget of the range, inclusive.
        num_inference_steps: Steps of the run, T. The budget T computes every step, so it needs
            no policy and is always served.

    Raises:
        BudgetError: Not 1 <= smallest <= largest <= num_inference_steps.
    """

    smallest: int
    largest: int
    num_inference_steps: int

    def __post_init__(self) -> None:
        remedy = "Use 1 <= smallest <= largest <= num_inference_steps"
        for field in ("smallest", "largest", "num_inference_steps"):
            value = as_int(field, getattr(self, field), BudgetError, remedy)
            object.__setattr__(self, field, value)
        if self.smallest < 1:
            raise BudgetError("smallest", self.smallest, "below 1", remedy)
        if self.largest < self.smallest:
            problem = f"below the smallest budget {self.smallest}"
            raise BudgetError("largest", self.largest, problem, remedy)
        if self.largest > self.num_inference_steps:
            problem = f"above the {self.num_inference_steps} steps of the run"
            raise BudgetError("largest", self.largest, problem, remedy)

    @classmethod
    def up_to(cls, num_inference_steps: int) -> Budgets:
        """Return every budget that a run of so many steps can have: 2 … T, or 1 of a single step.

        Raises:
            BudgetError: The number of steps is not an integer >= 1.
        """
        total = as_count("num_inference_steps", num_inference_steps, BudgetError)
        return cls(min(2, total), total, total)

    def __contains__(self, budget: object) -> bool:
        if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)):
            return False
        value = int(budget)
        return self.smallest <= value <= self.largest or value == self.num_inference_steps

    def __iter__(self) -> Iterator[int]:
        """Go through every served budget, smallest first."""
        yield from range(self.smallest, self.largest + 1)
        if self.largest < self.num_inference_steps:
            yield self.num_inference_steps

    def __str__(self) -> str:
        span = f"{self.smallest} … {self.largest}"
        if self.smallest == self.largest:
            span = f"{self.smallest}"
        if self.largest == self.num_inference_steps:
            return span
        return f"{span}, or {self.num_inference_steps}"

    def require(self, budget: int, policy_name: str) -> int:
        """Return the budget as `int` if it is served.

        Raises:
            BudgetError: It is not; the message lists what is.
        """
        remedy = f"Use budget={self}"
        budget = as_int("budget", budget, BudgetError, remedy)
        if budget in self:
            return budget
        if budget < self.smallest:
            problem = f"below the smallest budget {self.smallest} of policy {policy_name!r}"
        elif budget > self.num_inference_steps:
            problem = f"above the {self.num_inference_steps} steps of the run"
        else:
            problem = f"above the largest budget {self.largest} of policy {policy_name!r}"
        raise BudgetError("budget", budget, problem, remedy)

    def clamp(self, budget: int) -> int:
        """Return the budget to serve where this one is asked for, whatever integer it is.

        The range's ends catch what lies below and above it; only a budget of all the steps or more
        becomes the full run, so a request for some speed-up never ends up with none.

        Raises:
            BudgetError: It is not an integer.
        """
        budget = as_int("budget", budget, BudgetError, f"Use budget={self}")
        if budget >= self.num_inference_steps:
            return self.num_inference_steps
        return min(max(budget, self.smallest), self.largest)

    def scaled_to(self, num_inference_steps: int) -> Budgets:
        """Return the budgets that a run of other steps is served: the same shares of them.

        Both ends are rounded as a speed-up is, so what a speed-up comes to is served for every
        number of steps or for none.
        """

        def scaled(budget: int) -> int:
            return round(budget * num_inference_steps / self.num_inference_steps)

        smallest = min(max(scaled(self.smallest), 2), num_inference_steps)
        return Budgets(smallest, max(scaled(self.largest), smallest), num_inference_steps)


@runtime_checkable
class Policy(Protocol):
    """A way to get a schedule for a budget, calibrated or not.

    `otcache_policies.testing.PolicyConformance` checks an implementation.
    """

    @property
    def name(self) -> str:
        """The policy's word in `policy=`: an identifier such as "otcache"."""

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that the schedules are for."""

    @property
    def budgets(self) -> Budgets:
        """The budgets that `schedule` serves."""

    def schedule(self, budget: int) -> Schedule:
        """Return the schedule with exactly `budget` computed steps.

        The same budget gives an equal schedule every time.

        Raises:
            BudgetError: The budget is not among `budgets`.
        """


@runtime_checkable
class AdaptingPolicy(Policy, Protocol):
    """A policy that can make schedules for other noise levels than those it was calibrated on.

    Where a policy is not one, or makes none for a run, the schedule of the calibrated noise levels
    is carried over to those of the run (`otcache_policies.transfer`).
    """

    def schedule_at(
        self, budget: int, sigmas: NDArray[np.float64], response: NDArray[np.float64]
    ) -> Schedule | None:
        """Return a schedule made for a run's own noise levels.

        Args:
            budget: Computed steps, 2 … T' of the run's steps.
            sigmas: Noise levels of the run, shape (T'+1,), strictly decreasing.
            response: What one unit of each step's velocity adds to the run's last latents, shape
                (T',): for Euler steps the changes of sigma.

        Returns:
            The schedule, the same one every time; None where nothing is known of such a run.
        """


def budget_for_speedup(speedup: float, num_inference_steps: int) -> int:
    """Return the budget of a speed-up s: round(T / s).

    Halves go to the even budget, as in Python: 4x of 50 steps is budget 12. A run of two steps or
    more computes at least its first and its last.

    Raises:
        BudgetError: The speed-up is not a finite number >= 1, or there is no step.
    """
    remedy = "Use a speed-up of 1 or more, such as speedup=4.0"
    ratio = as_positive("speedup", speedup, BudgetError, remedy)
    if ratio < 1:
        raise BudgetError("speedup", speedup, "below 1, which would be slower", remedy)
    total = as_count("num_inference_steps", num_inference_steps, BudgetError)
    return max(round(total / ratio), min(2, total))
