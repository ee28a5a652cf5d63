"""The MeanCache policy: the cheapest path through the edge table (arXiv 2601.19961).

Each budget is solved on its own: of all paths from the first step to the last with exactly that
many computed steps, the one with the smallest sum of cost^gamma, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from otcache_policies.edges import EdgeSettings, EdgeTable
from otcache_policies.policy import Budgets
from otcache_policies.schedule import Schedule
from otcache_policies.shortest_path import budgeted_shortest_path

__all__ = ["MeanCachePolicy"]


@dataclass(frozen=True)
class MeanCachePolicy:
    """Peak-suppressed shortest path, with the best look-back of every edge.

    Args:
        edges: The measured edge table.
        settings: How to read it; gamma above 1 punishes single expensive segments.

    Raises:
        EdgeTableError: The settings ask for a look-back that the table does not have.
    """

    edges: EdgeTable
    settings: EdgeSettings = field(default_factory=EdgeSettings)

    name: ClassVar[str] = "meancache"

    def __post_init__(self) -> None:
        self.edges.costs(self.settings)  # Refused here rather than at the first schedule.

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that the table was measured on."""
        return self.edges.num_inference_steps

    @property
    def budgets(self) -> Budgets:
        """2 … T."""
        return Budgets.up_to(self.num_inference_steps)

    def schedule(self, budget: int) -> Schedule:
        """Return the optimal path with exactly `budget` computed steps.

        Raises:
            BudgetError: The budget is outside 2 … T.
        """
        budget = self.budgets.require(budget, self.name)
        # The powers of +inf are +inf: what is no edge stays none.
        costs = self.edges.costs(self.settings) ** self.settings.gamma
        steps = budgeted_shortest_path(costs, budget)
        look_backs = self.edges.look_backs(steps, self.settings)
        return Schedule(steps, self.num_inference_steps, look_backs)
