"""The LeMiCa policy: the path whose worst segments do the least to the outcome (arXiv 2511.00090).

Each budget is solved on its own, exactly: of all paths from the first step to the last with that
many computed steps, the one whose errors in descending order are lexicographically smallest. The
shortest path, by the sum of the errors, is there for comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from otcache_policies.errors import OutcomeTableError
from otcache_policies.minimax_path import budgeted_minimax_path
from otcache_policies.outcomes import OutcomeTable
from otcache_policies.policy import Budgets
from otcache_policies.schedule import Schedule
from otcache_policies.shortest_path import budgeted_shortest_path

__all__ = ["LeMiCaPolicy", "PathRule"]

PathRule = Literal["minimax", "shortest"]
"""Which path is the best: by its worst edges, or by their sum."""

_PATHS = {"minimax": budgeted_minimax_path, "shortest": budgeted_shortest_path}


@dataclass(frozen=True)
class LeMiCaPolicy:
    """The best path over global outcome-aware edges.

    Args:
        table: What caching each segment alone does to the outcome.
        path: "minimax", LeMiCa's own rule, or "shortest".

    Raises:
        OutcomeTableError: The path is neither of the two.
    """

    table: OutcomeTable
    path: PathRule = "minimax"

    name: ClassVar[str] = "lemica"

    def __post_init__(self) -> None:
        if self.path not in _PATHS:
            remedy = f"Use {' or '.join(map(repr, get_args(PathRule)))}"
            raise OutcomeTableError("path", self.path, "not a known rule", remedy)

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that were measured."""
        return self.table.num_inference_steps

    @property
    def budgets(self) -> Budgets:
        """From as few steps as the largest gap allows to T."""
        total = self.num_inference_steps
        return Budgets(self.table.fewest_steps, total, total)

    def schedule(self, budget: int) -> Schedule:
        """Return the best path with exactly `budget` computed steps.

        Raises:
            BudgetError: The budget is not among `budgets`.
        """
        budget = self.budgets.require(budget, self.name)
        return self.table.schedule(_PATHS[self.path](self.table.errors, budget))
