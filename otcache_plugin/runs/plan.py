"""What `enable_cache` was asked for, resolved at every run to what that run follows.

The number of steps and the sigmas are known only when a run begins, so nothing before that
produces a schedule: a plan holds the request and answers with one when it is shown the sigmas, or
with a policy that will decide at every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from otcache_policies import (
    AdaptingPolicy,
    BudgetError,
    RunConditions,
    Schedule,
    ScheduleError,
    same_sigmas,
    transfer,
)

from otcache_plugin.runs.notices import Notices
from otcache_plugin.runs.resolution import Adaptation, DecidedRun, ScheduledRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from otcache_policies import DecidingPolicy, Policy
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.runs.request import Request
    from otcache_plugin.runs.resolution import DocumentOrigin, Resolution

    Response = Callable[[], NDArray[np.float64]]
    """Gives, for a run of T steps, the `(T,)` response of its last latents to the velocities."""

__all__ = [
    "CalibratedPlan",
    "DecidingPlan",
    "Plan",
    "SchedulePlan",
    "UncalibratedPlan",
]


class Plan(Protocol):
    """A request that can be resolved once the sigmas of a run are known."""

    @property
    def policy_name(self) -> str:
        """The policy's registered name."""
        ...

    @property
    def origin(self) -> DocumentOrigin | None:
        """The policy document it rests on, if any."""
        ...

    @property
    def deciding(self) -> DecidingPolicy[Any] | None:
        """The policy, where it decides at every step, so that nothing is planned before."""
        ...

    def budget_for(self, num_inference_steps: int) -> int | None:
        """Return how many steps of a run are to be computed, None where the policy is to say.

        Raises:
            ScheduleError, BudgetError: the plan has nothing for such a run.
        """
        ...

    def largest_look_back(self, num_inference_steps: int | None) -> int | None:
        """Return how far the cached steps of a run look back, None where only the run can tell.

        Args:
            num_inference_steps: of the run, None where unknown.
        """
        ...

    def resolve(
        self,
        sigmas: NDArray[np.float64],
        response: Response | None = None,
        setup: RunSetup | None = None,
    ) -> Resolution:
        """Return what a run follows.

        Args:
            sigmas: its noise levels, `(T + 1,)`.
            response: gives what one unit of each step's velocity adds to its last latents; None
                where that is not known.
            setup: what the pipeline's call says of it; None where that is unknown.

        Raises:
            ScheduleError, BudgetError: there is nothing.
        """
        ...


@dataclass(frozen=True)
class SchedulePlan:
    """An explicit schedule: it fits the run's number of steps, or the run is refused."""

    schedule: Schedule
    policy_name: str = "schedule"
    origin: None = None
    deciding: None = None

    def budget_for(self, num_inference_steps: int) -> int:
        """See `Plan.budget_for`."""
        wanted = self.schedule.num_inference_steps
        if num_inference_steps != wanted:
            raise ScheduleError(
                "num_inference_steps",
                num_inference_steps,
                f"the schedule is for {wanted} steps",
                f"Call the pipeline with num_inference_steps={wanted} (of which a strength below 1 "
                f"leaves a part), or pass a schedule for {num_inference_steps} steps, or a policy "
                "by name, which adapts to the run",
            )
        return self.schedule.budget

    def largest_look_back(self, num_inference_steps: int | None) -> int:
        """See `Plan.largest_look_back`."""
        return ScheduledRun(self.schedule).largest_look_back

    def resolve(
        self,
        sigmas: NDArray[np.float64],
        response: Response | None = None,
        setup: RunSetup | None = None,
    ) -> ScheduledRun:
        """See `Plan.resolve`."""
        self.budget_for(len(sigmas) - 1)
        return ScheduledRun(self.schedule)


@dataclass(frozen=True)
class UncalibratedPlan:
    """A policy that exists for any number of steps, made anew for each run."""

    policy_name: str
    make_policy: Callable[[int], Policy]
    request: Request
    default_ratio: float
    origin: None = None
    deciding: None = None
    notices: Notices = field(default_factory=Notices, repr=False, compare=False)

    def budget_for(self, num_inference_steps: int) -> int:
        """See `Plan.budget_for`."""
        _, budget = self._policy_and_budget(num_inference_steps)
        return budget

    def largest_look_back(self, num_inference_steps: int | None) -> None:
        """See `Plan.largest_look_back`; it falls to what the scheduler allows."""

    def resolve(
        self,
        sigmas: NDArray[np.float64],
        response: Response | None = None,
        setup: RunSetup | None = None,
    ) -> ScheduledRun:
        """See `Plan.resolve`."""
        steps = len(sigmas) - 1
        policy, budget = self._policy_and_budget(steps)
        notes = _doubts(self.request, steps, budget, self.notices)
        return ScheduledRun(policy.schedule(budget), notes=notes)

    def _policy_and_budget(self, num_inference_steps: int) -> tuple[Policy, int]:
        policy = self.make_policy(num_inference_steps)
        budget = self.request.served_budget(num_inference_steps, self.default_ratio, policy)
        return policy, budget


@dataclass(frozen=True)
class CalibratedPlan:
    """A policy calibrated on one noise schedule, adapted when the run has another.

    Without sigmas, as where others published no more than schedules, those of a run count as the
    calibrated ones, read at the calibrated number of steps.
    """

    policy: Policy
    sigmas: NDArray[np.float64] | None
    default_budget: int
    request: Request
    origin: DocumentOrigin
    deciding: None = None
    notices: Notices = field(default_factory=Notices, repr=False, compare=False)

    @property
    def policy_name(self) -> str:
        """The policy's registered name."""
        return self.policy.name

    def budget_for(self, num_inference_steps: int) -> int:
        """See `Plan.budget_for`."""
        ratio = self.default_budget / self.policy.num_inference_steps
        return self.request.served_budget(num_inference_steps, ratio, self.policy)

    def largest_look_back(self, num_inference_steps: int | None) -> int | None:
        """See `Plan.largest_look_back`; other noise levels than the calibrated ones don't count."""
        if num_inference_steps is None:
            return None
        try:
            budget = self.budget_for(num_inference_steps)
        except BudgetError:
            return None  # The run may have other steps, and will say it if it hasn't.
        if budget == num_inference_steps:
            return 1
        schedule = self._calibrated_schedule(budget, num_inference_steps)
        return ScheduledRun(schedule).largest_look_back

    def resolve(
        self,
        sigmas: NDArray[np.float64],
        response: Response | None = None,
        setup: RunSetup | None = None,
    ) -> ScheduledRun:
        """See `Plan.resolve`.

        On other steps or sigmas than the calibrated ones the policy makes a schedule for those
        of the run, if it can (`otcache_policies.AdaptingPolicy`); if not, the schedule of the same
        share of computed steps is carried over (`otcache_policies.transfer`).
        """
        steps = len(sigmas) - 1
        budget = self.budget_for(steps)
        schedule, adaptation = self._schedule(budget, sigmas, response)
        notes = _doubts(self.request, steps, budget, self.notices)
        return ScheduledRun(schedule, adaptation, self.origin, notes)

    def _schedule(
        self, budget: int, sigmas: NDArray[np.float64], response: Response | None
    ) -> tuple[Schedule, Adaptation | None]:
        steps, calibrated_steps = len(sigmas) - 1, self.policy.num_inference_steps
        calibrated = self.sigmas
        if calibrated is None:
            positions = np.linspace(0, steps, calibrated_steps + 1)
            calibrated = np.interp(positions, np.arange(steps + 1), sigmas)
        if same_sigmas(sigmas, calibrated):
            return self.policy.schedule(budget), None
        if budget == steps:
            return Schedule.full(steps), None
        if isinstance(self.policy, AdaptingPolicy) and response is not None:
            adapted = self.policy.schedule_at(budget, sigmas, response())
            if adapted is not None:
                return adapted, Adaptation.OPTIMISED
        schedule = self._calibrated_schedule(budget, steps)
        return transfer(schedule, calibrated, sigmas, budget), Adaptation.CARRIED_OVER

    def _calibrated_schedule(self, budget: int, steps: int) -> Schedule:
        """Return the calibrated schedule of the share of steps that a run computes."""
        share = budget / steps
        served = self.policy.budgets.clamp(round(share * self.policy.num_inference_steps))
        return self.policy.schedule(served)


@dataclass(frozen=True)
class DecidingPlan:
    """A policy that decides at every step, begun anew for each run.

    Attributes:
        policy: that decides.
        request: how many steps it should aim at.
        default_ratio: share of computed steps when nothing is asked for; None leaves it to the
            policy.
        origin: the policy document it rests on, if any.
    """

    policy: DecidingPolicy[Any]
    request: Request
    default_ratio: float | None = None
    origin: DocumentOrigin | None = None

    @property
    def policy_name(self) -> str:
        """The policy's registered name."""
        return self.policy.name

    @property
    def deciding(self) -> DecidingPolicy[Any]:
        """The policy."""
        return self.policy

    def budget_for(self, num_inference_steps: int) -> int | None:
        """See `Plan.budget_for`; it is for the policy to aim at."""
        budget = (
            self.request.asked_for(num_inference_steps)
            if self.default_ratio is None
            else self.request.budget_for(num_inference_steps, self.default_ratio)
        )
        if budget is not None and budget > num_inference_steps:
            problem = f"the run has {num_inference_steps} steps"
            raise BudgetError("budget", budget, problem, f"Use budget=2 … {num_inference_steps}")
        return budget

    def largest_look_back(self, num_inference_steps: int | None) -> int:
        """See `Plan.largest_look_back`."""
        return self.policy.look_back

    def resolve(
        self,
        sigmas: NDArray[np.float64],
        response: Response | None = None,
        setup: RunSetup | None = None,
    ) -> DecidedRun:
        """See `Plan.resolve`."""
        budget = self.budget_for(len(sigmas) - 1)
        return DecidedRun(self.policy, RunConditions(sigmas, budget), self.origin)


def _doubts(request: Request, steps: int, budget: int, notices: Notices) -> tuple[str, ...]:
    """Return what to note of a run of few steps, having warned of it."""
    doubt = request.doubt(steps, budget)
    if doubt is None:
        return ()
    notices.warn("", [("steps", doubt)], "")
    return (doubt,)
