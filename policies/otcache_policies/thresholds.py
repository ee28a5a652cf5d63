"""Thresholds of policies that decide by one: by the budget that a run aims at.

Only runs tell how many steps a threshold comes to, so thresholds are calibrated at some budgets,
and interpolated geometrically between two of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from otcache_policies._validation import as_positive
from otcache_policies.accumulated_change import AccumulatedChange
from otcache_policies.deciding import RunConditions
from otcache_policies.errors import BudgetError, FieldError
from otcache_policies.policy import Budgets

__all__ = ["ThresholdPolicy", "Thresholds"]


class Thresholds:
    """The threshold of every budget of a range.

    Args:
        by_budget: Calibrated thresholds, by budget; none is above that of a smaller budget.
        num_inference_steps: Steps of the calibrated runs, T.

    Raises:
        BudgetError: There is no budget, or one that a run of so many steps cannot have.
        FieldError: A threshold is not above 0, or above that of a smaller budget.
    """

    def __init__(self, by_budget: Mapping[int, float], num_inference_steps: int) -> None:
        remedy = "Give a threshold above 0 for each of some budgets, decreasing with the budget"
        if not by_budget:
            raise BudgetError("thresholds", by_budget, "no budget has a threshold", remedy)
        self.by_budget = {
            budget: as_positive("thresholds", by_budget[budget], FieldError, remedy)
            for budget in sorted(by_budget)
        }
        values = list(self.by_budget.values())
        if any(following > before for before, following in pairwise(values)):
            problem = "a larger budget has a larger threshold"
            raise FieldError("thresholds", dict(by_budget), problem, remedy)
        self.budgets = Budgets(min(by_budget), max(by_budget), num_inference_steps)

    def of_run(self, run: RunConditions, policy_name: str) -> float:
        """Return the threshold of a run.

        A run of other steps than the calibrated ones is served the same shares of them. With fewer
        steps each is a larger change, so the threshold grows as their number falls.

        Args:
            run: The run, with the budget to aim at; that of all its steps has the threshold 0.
            policy_name: Whose thresholds these are, for errors.

        Raises:
            BudgetError: The run has no budget, or one that is not served.
        """
        steps, budget = run.num_inference_steps, run.budget
        served = self.budgets.scaled_to(steps)
        remedy = f"Use budget={served}"
        if budget is None:
            raise BudgetError("budget", None, f"policy {policy_name!r} aims at one", remedy)
        if budget not in served:
            problem = f"of {steps} steps, outside the range of policy {policy_name!r}"
            raise BudgetError("budget", budget, problem, remedy)
        if budget == steps:
            return 0.0
        share = self.budgets.num_inference_steps / steps
        calibrated, values = list(self.by_budget), list(self.by_budget.values())
        # np.interp holds the end values outside, where rounding may put a run of other steps.
        return float(np.exp(np.interp(budget * share, calibrated, np.log(values)))) * share


class ThresholdPolicy:
    """What policies that decide by a threshold for every budget have in common.

    Args:
        thresholds: Their thresholds, by the budget to aim at.
    """

    name: ClassVar[str]

    def __init__(self, thresholds: Thresholds) -> None:
        self.thresholds = thresholds

    @property
    def num_inference_steps(self) -> int:
        """Steps of the calibrated runs, T."""
        return self.thresholds.budgets.num_inference_steps

    @property
    def budgets(self) -> Budgets:
        """The budgets that it can aim at."""
        return self.thresholds.budgets

    def begin(self, run: RunConditions, observation: Any) -> AccumulatedChange:
        """Return a fresh decider for a run.

        Raises:
            BudgetError: The run has no budget, or one that is not served.
        """
        threshold = self.thresholds.of_run(run, self.name)
        return AccumulatedChange(threshold, observation, self.rescale)

    def rescale(self, change: float) -> float:
        """Return how much a change of what is observed counts."""
        return change
