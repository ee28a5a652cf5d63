"""The uniform policy: computed steps at equal distances, without any calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from otcache_policies._validation import as_count
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
        ScheduleError: The number of steps or the look-back is not an integer >= 1.
    """

    num_inference_steps: int
    look_back: int = 1

    name: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        for field in ("num_inference_steps", "look_back"):
            object.__setattr__(self, field, as_count(field, getattr(self, field), ScheduleError))

    @property
    def budgets(self) -> Budgets:
        """2 … T."""
        return Budgets.up_to(self.num_inference_steps)

    def schedule(self, budget: int) -> Schedule:
        """Return round(linspace(0, T-1, budget)).

        The points lie more than 1 apart unless every step is computed, so no two round to the same
        step.

        Raises:
            BudgetError: The budget is outside 2 … T.
        """
        budget = self.budgets.require(budget, self.name)
        steps = np.rint(np.linspace(0, self.num_inference_steps - 1, budget)).astype(np.int64)
        look_backs = [self.look_back if gap > 1 else 1 for gap in np.diff(steps)]
        return Schedule(steps.tolist(), self.num_inference_steps, look_backs)
