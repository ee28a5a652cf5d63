"""The OTCache policy: schedules for any budget, predicted from a few calibrated ones.

A searched anchor at an extreme budget and a graph policy's reference at a conservative one span a
Wasserstein geodesic (arXiv 2606.31026, section 3.3); every budget between them is a point on it.
Schedules that were calibrated at budgets in between are waypoints: the path leads through them,
from each to the next on the geodesic of the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from otcache_policies._validation import as_positive
from otcache_policies.edges import EdgeSettings, EdgeTable
from otcache_policies.errors import EdgeTableError, FieldError, ScheduleError
from otcache_policies.meancache import MeanCachePolicy
from otcache_policies.policy import AdaptingPolicy, Budgets
from otcache_policies.prediction import Warp, vanishing_warp
from otcache_policies.schedule import Schedule
from otcache_policies.transport import require_endpoints

__all__ = ["OTCachePolicy"]


@dataclass(frozen=True)
class OTCachePolicy:
    """Optimal-transport prediction between an anchor and a reference.

    At a calibrated schedule's budget that very schedule is returned. Between two of them the
    schedule is predicted: its steps by optimal transport, its look-backs as those of a calibrated
    schedule around the same steps, since look-backs that were searched together with the steps hold
    for neighbouring schedules too, while those of the edge table were measured on full runs. With a
    table the policy goes on above the reference's budget as MeanCache: there segments are short
    and the additive surrogate that it minimises is reliable, which is why the reference is taken
    from it in the first place. From a single schedule, both anchor and reference, nothing is
    predicted.

    Args:
        anchor: Searched schedule at the smallest budget.
        reference: Schedule of a graph policy at a larger budget, for the same number of steps; or
            the anchor, where there is no other.
        rho: Exponent of the warp that keeps early steps dense, finite and above 0. To be
            calibrated per model; 1.3 is the paper's.
        edges: Edge table of the calibration, if at hand.
        settings: How to read the table.
        waypoints: Calibrated schedules of budgets between the anchor's and the reference's, by
            increasing budget.
        warp: What predicts between two of them: `vanishing_warp`, or the paper's `constant_warp`.
        other_runs: Makes the schedules of runs with other noise levels, if at hand.

    Raises:
        ScheduleError: The schedules differ in steps, or the budgets of several do not increase.
        FieldError: rho is not finite and above 0.
        EdgeTableError: The table has another number of steps, or does not fit the settings.
    """

    anchor: Schedule
    reference: Schedule
    rho: float = 1.3
    edges: EdgeTable | None = None
    settings: EdgeSettings = field(default_factory=EdgeSettings)
    waypoints: tuple[Schedule, ...] = ()
    warp: Warp = vanishing_warp
    other_runs: AdaptingPolicy | None = None

    name: ClassVar[str] = "otcache"

    def __post_init__(self) -> None:
        if self.reference != self.anchor:
            require_endpoints(self.anchor, self.reference)
        object.__setattr__(self, "waypoints", tuple(self.waypoints))
        self._check_waypoints()
        rho = as_positive("rho", self.rho, FieldError, "Use a number such as rho=1.3")
        object.__setattr__(self, "rho", rho)
        if self.edges is None:
            return
        self.edges.costs(self.settings)  # Refused here rather than at the first schedule.
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
    def calibrated(self) -> tuple[Schedule, ...]:
        """The anchor, the waypoints and the reference: all that is not predicted."""
        if self.reference == self.anchor:
            return (self.anchor,)
        return (self.anchor, *self.waypoints, self.reference)

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
        for calibrated in self.calibrated:
            if budget == calibrated.budget:
                return calibrated
        if budget == self.num_inference_steps:
            return Schedule.full(budget)
        if self.edges is not None and budget > self.reference.budget:
            return MeanCachePolicy(self.edges, self.settings).schedule(budget)
        smaller, larger = next(
            pair for pair in pairwise(self.calibrated) if pair[0].budget < budget < pair[1].budget
        )
        return self.warp(smaller, larger, budget, self.rho)

    def schedule_at(
        self, budget: int, sigmas: NDArray[np.float64], response: NDArray[np.float64]
    ) -> Schedule | None:
        """Return the schedule made for a run of other noise levels, None where none can be made.

        See `AdaptingPolicy.schedule_at`.
        """
        if self.other_runs is None:
            return None
        return self.other_runs.schedule_at(budget, sigmas, response)

    def _check_waypoints(self) -> None:
        for index, (before, schedule) in enumerate(pairwise((self.anchor, *self.waypoints))):
            name = f"waypoints[{index}]"
            if schedule.num_inference_steps != self.num_inference_steps:
                problem = f"not of the anchor's {self.num_inference_steps} steps"
                raise ScheduleError(name, schedule, problem, "Calibrate all for the same steps")
            if not before.budget < schedule.budget < self.reference.budget:
                problem = f"its budget {schedule.budget} is out of order"
                remedy = "Give them by increasing budget, between the anchor's and the reference's"
                raise ScheduleError(name, schedule, problem, remedy)
