"""The uniform policy: computed steps at equal distances, without any calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from otcache_policies._validation import as_int
from otcache_policies.errors import ScheduleError
from otcache_policies.policy import Budgets
from otcache_policies.schedule import Schedule

__all__ = ["UniformPolicy"]


@dataclass(frozen=True)
class UniformPolicy:
    """Evenly spaced computed steps; the yardstick for every calibrated policy.

    Args:
        num_inference_steps: Steps of the run, T >= 1.
        look_back: Look-back of every segment that has cached steps.

    Raises:
        ScheduleError: There is no step, or the look-back is not an integer >= 1.
    """

    num_inference_steps: int
    look_back: int = 1

    name: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        total = Schedule.full(self.num_inference_steps).num_inference_steps
        object.__setattr__(self, "num_inference_steps", total)
        remedy = "Use 1 or more"
        look_back = as_int("look_back", self.look_back, ScheduleError, remedy)
        if look_back < 1:
            raise ScheduleError("look_back", look_back, "below 1", remedy)
        object.__setattr__(self, "look_back", look_back)

    @property
    def budgets(self) -> Budgets:
        """2 … T."""
        return Budgets(
            min(2, self.num_inference_steps), self.num_inference_steps, self.num_inference_steps
        )

    def schedule(self, budget: int) -> Schedule:
        """Return round(linspace(0, T-1, budget)).

        The points lie at least 1 apart, more than 1 unless every step is computed, so no two round
        to the same step.

        Raises:
            BudgetError: The budget is outside 2 … T.
        """
        budget = self.budgets.require(budget, self.name)
        steps = np.rint(np.linspace(0, self.num_inference_steps - 1, budget)).astype(np.int64)
        look_backs = [self.look_back if gap > 1 else 1 for gap in np.diff(steps)]
        return Schedule(steps.tolist(), self.num_inference_steps, look_backs)
