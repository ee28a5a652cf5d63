"""How many steps of a run are to be computed, and whether a policy serves that many.

Budgets and speed-ups are of the run's own steps. A policy that was calibrated at other steps serves
the same shares of them, so whoever asks for a budget and whoever asks for the speed-up that it
comes to get the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_policies import BudgetError, budget_for_speedup

if TYPE_CHECKING:
    from otcache_policies import Policy

__all__ = ["DEFAULT_RATIO", "FEW_STEPS", "Request"]

DEFAULT_RATIO = 15 / 50
"""Share of computed steps when neither budget nor speed-up is asked for and no document says."""

FEW_STEPS = 8
"""Runs of so many steps, and fewer, are those of distilled models."""


@dataclass(frozen=True)
class Request:
    """How many steps to compute: a budget, a speed-up, or neither for the default."""

    budget: int | None = None
    speedup: float | None = None

    def asked_for(self, num_inference_steps: int) -> int | None:
        """Return the budget asked for of a run, None for the default; a speed-up scales with it."""
        if self.budget is None and self.speedup is not None:
            return budget_for_speedup(self.speedup, num_inference_steps)
        return self.budget

    def budget_for(self, num_inference_steps: int, default_ratio: float) -> int:
        """Return the budget of a run; the default, too, scales with the number of steps."""
        asked = self.asked_for(num_inference_steps)
        if asked is not None:
            return asked
        return min(max(round(default_ratio * num_inference_steps), 2), num_inference_steps)

    def served_budget(self, num_inference_steps: int, default_ratio: float, policy: Policy) -> int:
        """Return the budget of a run, which a policy of this or another number of steps serves.

        Raises:
            BudgetError: it does not; the message speaks of the run's steps.
        """
        budget = self.budget_for(num_inference_steps, default_ratio)
        served = policy.budgets.scaled_to(num_inference_steps)
        if budget in served:
            return int(budget)
        outside = f"outside the range of policy {policy.name!r}"
        if policy.num_inference_steps != num_inference_steps:
            outside += f", which was calibrated at {policy.num_inference_steps} steps"
        if self.budget is not None:
            problem = f"of {num_inference_steps} steps, {outside}"
            if not 2 <= budget <= num_inference_steps:
                problem = f"the run has {num_inference_steps} steps"
            raise BudgetError("budget", budget, problem, f"Use budget={served}")
        largest = num_inference_steps / served.smallest
        raise BudgetError(
            "speedup",
            self.speedup,
            f"{budget} of {num_inference_steps} steps are {outside}",
            f"Use a speed-up for {served} of {num_inference_steps} steps, up to {largest:.2f}",
        )

    def doubt(self, num_inference_steps: int, budget: int) -> str | None:
        """Return why a run is likely to suffer, None where nothing speaks for it.

        A share of many steps says little of few, each of which does a large part of the work.
        Whoever asks for a budget has those few steps in mind.
        """
        sensible = num_inference_steps - max(num_inference_steps // 4, 1)
        few = budget < sensible and num_inference_steps <= FEW_STEPS
        if not few or self.budget is not None:
            return None
        return (
            f"{budget} of {num_inference_steps} steps are computed, a share that is meant for runs "
            f"of many steps: in so few, as of distilled models, hardly any can be left out. Pass "
            f"policy='uniform', budget={sensible}, or run all steps without a cache."
        )
