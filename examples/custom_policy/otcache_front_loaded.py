"""The policy `front_loaded`: computed steps dense at the beginning, where images are decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from otcache_policies import project_sum

from otcache_plugin.plugins import Budgets, Schedule, hookimpl

if TYPE_CHECKING:
    from otcache_plugin.plugins import PolicyRegistry

LOOK_BACK = 2


@dataclass(frozen=True)
class FrontLoadedPolicy:
    """Step i of B lies at (i / (B - 1)) ** power of the run; power 1 is uniform.

    Args:
        num_inference_steps: steps of the run, T >= 1.
        power: how much denser the beginning is than the end.
    """

    num_inference_steps: int
    power: float = 1.5

    name: ClassVar[str] = "front_loaded"

    @property
    def budgets(self) -> Budgets:
        """2 … T."""
        total = self.num_inference_steps
        return Budgets(min(2, total), total, total)

    def schedule(self, budget: int) -> Schedule:
        """Return the schedule; raise BudgetError when the budget is outside 2 … T."""
        budget = self.budgets.require(budget, self.name)
        last = self.num_inference_steps - 1
        positions = [last * (i / max(budget - 1, 1)) ** self.power for i in range(budget)]
        # Rounds the gaps, not the positions: every gap stays at least 1 and the ends stay put.
        steps = project_sum(positions)
        return Schedule(steps, self.num_inference_steps, [LOOK_BACK] * (budget - 1))


@hookimpl
def otcache_register_policies(registry: PolicyRegistry) -> None:
    """Register front_loaded."""
    registry.register_uncalibrated(
        FrontLoadedPolicy.name, FrontLoadedPolicy, "early steps dense; needs no calibration"
    )
