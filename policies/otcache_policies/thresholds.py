"""Thresholds of policies that decide by one: by the budget that a run aims at.

How many steps a threshold comes to only runs tell, so it is calibrated at some budgets, and found
between two of them as the geometric interpolation.
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
        by_budget: Thresholds that were calibrated, by budget; larger budgets have smaller ones.
        num_inference_steps: Steps of the calibrated runs, T.

    Raises:
        BudgetError: A budget is none of so many steps, or there is none.
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
        if any(low < high for low, high in pairwise(values)):
            problem = "a larger budget has a larger threshold"
            raise FieldError("thresholds", dict(by_budget), problem, remedy)
        self.budgets = Budgets(min(by_budget), max(by_budget), num_inference_steps)

    def of_run(self, run: RunConditions, policy: str) -> float:
        """Return the threshold of a run.

        A run of other steps than the calibrated ones is served the same shares of them. With fewer
        steps each is a larger change, so the threshold grows as their number falls.

        Args:
            run: With the budget to aim at; all of its steps have the threshold 0.
            policy: Its name, for errors.

        Raises:
            BudgetError: The run has no budget, or one that is not served.
        """
        steps, budget = run.num_inference_steps, run.budget
        share = self.budgets.num_inference_steps / steps
        served = range(
            max(round(self.budgets.smallest / share), 2), round(self.budgets.largest / share) + 1
        )
        remedy = f"Use budget={served.start} … {served.stop - 1}, or {steps}"
        if budget is None:
            raise BudgetError("budget", None, f"policy {policy!r} aims at one", remedy)
        if budget == steps:
            return 0.0
        if budget not in served:
            problem = f"of {steps} steps, outside the range of policy {policy!r}"
            raise BudgetError("budget", budget, problem, remedy)
        calibrated, values = list(self.by_budget), list(self.by_budget.values())
        # np.interp holds the end values outside, where rounding may put a run of other steps.
        return float(np.exp(np.interp(budget * share, calibrated, np.log(values)))) * share


class ThresholdPolicy:
    """What policies have in common that decide by a threshold for every budget.

    Args:
        thresholds: By the budget to aim at.
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
        """Return what decides a run.

        Raises:
            BudgetError: There is no threshold for the run's budget.
        """
        threshold = self.thresholds.of_run(run, self.name)
        return AccumulatedChange(threshold, observation, self.rescale)

    def rescale(self, change: float) -> float:
        """Return what a change of what is observed counts for."""
        return change
