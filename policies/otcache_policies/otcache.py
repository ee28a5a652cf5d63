"""The OTCache policy: schedules for any budget, predicted from two calibrated ones.

A searched anchor at an extreme budget and a graph policy's reference at a conservative one span a
Wasserstein geodesic (arXiv 2606.31026, section 3.3); every budget between them is a point on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from ._validation import as_positive
from .edges import EdgeSettings, EdgeTable
from .errors import EdgeTableError, FieldError
from .meancache import MeanCachePolicy
from .policy import Budgets
from .schedule import Schedule
from .transport import inherited_look_backs, predict, require_endpoints

__all__ = ["OTCachePolicy"]


@dataclass(frozen=True)
class OTCachePolicy:
    """Optimal-transport prediction between an anchor and a reference.

    At the anchor's and the reference's budget the calibrated schedule itself is returned. Between
    them the steps are predicted; each segment's look-back is, where look-backs were calibrated,
    that of the anchor's segment in which its midpoint lies, else the best of the edge table or,
    without a table, that of the nearer calibrated schedule's segment. With
    a table the policy goes on above the reference's budget as MeanCache: there segments are short
    and the additive surrogate that it minimises is reliable, which is why the reference is taken
    from it in the first place.

    Args:
        anchor: Searched schedule at the smallest budget.
        reference: Schedule of a graph policy at a larger budget, for the same number of steps.
        rho: Exponent of the warp that keeps early steps dense, finite and above 0. To be
            calibrated per model; 1.3 is the paper's.
        edges: Edge table of the calibration, if at hand.
        settings: How to read the table.
        look_backs: Look-backs that predictions inherit, one per segment of the anchor; None where
            none were calibrated.

    Raises:
        ScheduleError: The schedules differ in steps, the anchor's budget is not the smaller, or
            the look-backs do not fit the anchor.
        FieldError: rho is not finite and above 0.
        EdgeTableError: The table has another number of steps, or does not fit the settings.
    """

    anchor: Schedule
    reference: Schedule
    rho: float = 1.3
    edges: EdgeTable | None = None
    settings: EdgeSettings = field(default_factory=EdgeSettings)
    look_backs: tuple[int, ...] | None = None

    name: ClassVar[str] = "otcache"

    def __post_init__(self) -> None:
        require_endpoints(self.anchor, self.reference)
        if self.look_backs is not None:
            object.__setattr__(self, "look_backs", self._profile(self.look_backs).look_backs)
        rho = as_positive("rho", self.rho, FieldError, "Use a number such as rho=1.3")
        object.__setattr__(self, "rho", rho)
        if self.edges is None:
            return
        self.edges.costs(self.settings)
        if self.edges.num_inference_steps != self.num_inference_steps:
            raise EdgeTableError(
                "edges",
                self.edges.velocity_errors.shape,
                f"not a table of the schedules' {self.num_inference_steps} steps",
                "Use the table that was calibrated together with them",
            )

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that the schedules were calibrated for."""
        return self.anchor.num_inference_steps

    @property
    def budgets(self) -> Budgets:
        """From the anchor's budget to the reference's; up to T with an edge table."""
        total = self.num_inference_steps
        largest = self.reference.budget if self.edges is None else total
        return Budgets(self.anchor.budget, largest, total)

    def schedule(self, budget: int) -> Schedule:
        """Return the calibrated, predicted, graph-policy or full schedule of a budget.

        Raises:
            BudgetError: The budget is not among `budgets`.
        """
        budget = self.budgets.require(budget, self.name)
        for endpoint in (self.anchor, self.reference):
            if budget == endpoint.budget:
                return endpoint
        if budget == self.num_inference_steps:
            return Schedule.full(budget)
        if self.edges is not None and budget > self.reference.budget:
            return MeanCachePolicy(self.edges, self.settings).schedule(budget)
        steps = predict(self.anchor, self.reference, budget, self.rho)
        return Schedule(steps, self.num_inference_steps, self._look_backs(steps))

    def _look_backs(self, steps: tuple[int, ...]) -> tuple[int, ...]:
        midpoints = [(start + end) / 2 for start, end in pairwise(steps)]
        if self.look_backs is not None:
            return inherited_look_backs(steps, self._profile(self.look_backs), midpoints)
        if self.edges is not None:
            return self.edges.look_backs(steps, self.settings)
        to_anchor = len(steps) - self.anchor.budget
        to_reference = self.reference.budget - len(steps)
        nearer = self.anchor if to_anchor < to_reference else self.reference
        return inherited_look_backs(steps, nearer, midpoints)

    def _profile(self, look_backs: Sequence[int]) -> Schedule:
        """Return the anchor with these look-backs."""
        return self.anchor.with_look_backs(look_backs)
