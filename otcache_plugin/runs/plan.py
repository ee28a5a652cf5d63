"""What `enable_cache` was asked for, resolved at every run to what that run follows.

The number of steps and the sigmas are known only when a run begins, so nothing before that
produces a schedule: a plan holds the request and answers with one when it is shown the sigmas, or
with a policy that will decide at every step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from otcache_policies import (
    AdaptingPolicy,
    BudgetError,
    RunConditions,
    Schedule,
    ScheduleError,
    budget_for_speedup,
    same_sigmas,
    transfer,
)

from otcache_plugin.runs.resolution import Adaptation, DecidedRun, ScheduledRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from otcache_policies import DecidingPolicy, Policy

    from otcache_plugin.runs.resolution import Resolution

    Response = Callable[[], NDArray[np.float64]]
    """Gives, for a run of T steps, the `(T,)` response of its last latents to the velocities."""

__all__ = [
    "DEFAULT_RATIO",
    "CalibratedPlan",
    "DocumentOrigin",
    "Plan",
    "Request",
    "Resolution",
    "SchedulePlan",
    "UncalibratedPlan",
]

DEFAULT_RATIO = 15 / 50
"""Share of computed steps when neither budget nor speed-up is asked for and no document says."""


@dataclass(frozen=True)
class DocumentOrigin:
    """Where a calibrated policy came from, for reports, and notes on how it was found."""

    source: str
    model: str
    revision: str | None
    notes: tuple[str, ...] = ()


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

    def resolve(self, sigmas: NDArray[np.float64], response: Response | None = None) -> Resolution:
        """Return what a run follows.

        Args:
            sigmas: its noise levels, `(T + 1,)`.
            response: gives what one unit of each step's velocity adds to its last latents; None
                where that is not known.

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

    def resolve(
        self, sigmas: NDArray[np.float64], response: Response | None = None
    ) -> ScheduledRun:
        """See `Plan.resolve`."""
        steps = len(sigmas) - 1
        if steps != self.schedule.num_inference_steps:
            raise ScheduleError(
                "num_inference_steps",
                steps,
                f"the schedule is for {self.schedule.num_inference_steps} steps",
                f"Call the pipeline with num_inference_steps={self.schedule.num_inference_steps}, "
                f"or pass a policy by name, which adapts to the run",
            )
        return ScheduledRun(self.schedule)


@dataclass(frozen=True)
class Request:
    """How many steps to compute: a budget, a speed-up, or neither for the default."""

    budget: int | None = None
    speedup: float | None = None

    def asked_for(self, num_inference_steps: int) -> int | None:
        """Return the budget asked for of a run, None for the default; a speed-up scales with it."""
        if self.budget is None and self.speedup is not None:
            return budget_for_speedup(self.speedup, num_inference_steps)
        return self.budget

    def budget_for(self, num_inference_steps: int, default_ratio: float) -> int:
        """Return the budget of a run; the default, too, scales with the number of steps."""
        asked = self.asked_for(num_inference_steps)
        if asked is not None:
            return asked
        return min(max(round(default_ratio * num_inference_steps), 2), num_inference_steps)


@dataclass(frozen=True)
class UncalibratedPlan:
    """A policy that exists for any number of steps, made anew for each run."""

    policy_name: str
    make_policy: Callable[[int], Policy]
    request: Request
    default_ratio: float
    origin: None = None

    def resolve(
        self, sigmas: NDArray[np.float64], response: Response | None = None
    ) -> ScheduledRun:
        """See `Plan.resolve`."""
        steps = len(sigmas) - 1
        policy = self.make_policy(steps)
        return ScheduledRun(_schedule(policy, self.request.budget_for(steps, self.default_ratio)))


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

    @property
    def policy_name(self) -> str:
        """The policy's registered name."""
        return self.policy.name

    def resolve(
        self, sigmas: NDArray[np.float64], response: Response | None = None
    ) -> ScheduledRun:
        """See `Plan.resolve`.

        On other steps or sigmas than the calibrated ones the policy makes a schedule for those
        of the run, if it can (`otcache_policies.AdaptingPolicy`); if not, the schedule of the same
        share of computed steps is carried over (`otcache_policies.transfer`).
        """
        steps, calibrated_steps = len(sigmas) - 1, self.policy.num_inference_steps
        budget = self.request.budget_for(steps, self.default_budget / calibrated_steps)
        calibrated = self.sigmas
        if calibrated is None:
            positions = np.linspace(0, steps, calibrated_steps + 1)
            calibrated = np.interp(positions, np.arange(steps + 1), sigmas)
        if same_sigmas(sigmas, calibrated):
            return ScheduledRun(_schedule(self.policy, budget))
        if budget == steps:
            return ScheduledRun(Schedule.full(steps))
        if not 2 <= budget < steps:
            raise _more_than_the_run(budget, steps)
        served = self._calibrated_budget(budget, steps)
        if isinstance(self.policy, AdaptingPolicy) and response is not None:
            adapted = self.policy.schedule_at(budget, sigmas, response())
            if adapted is not None:
                return ScheduledRun(adapted, Adaptation.OPTIMISED)
        carried = transfer(self.policy.schedule(served), calibrated, sigmas, budget)
        return ScheduledRun(carried, Adaptation.CARRIED_OVER)

    def _calibrated_budget(self, budget: int, steps: int) -> int:
        """Return the served budget that computes the same share of the calibrated steps.

        A step of the run is worth several or a part of the calibrated ones, so what lies outside
        the range by less than one step of the run counts as its end.
        """
        step = self.policy.num_inference_steps / steps
        served = self.policy.budgets.clamp(round(budget * step))
        if abs(served - budget * step) > step:
            raise BudgetError(
                "budget",
                budget,
                f"of {steps} steps, outside the range of policy {self.policy.name!r}, which was "
                f"calibrated at {self.policy.num_inference_steps} steps",
                f"Use the share of the steps that {self.policy.budgets} of "
                f"{self.policy.num_inference_steps} are",
            )
        return served


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

    def resolve(self, sigmas: NDArray[np.float64], response: Response | None = None) -> DecidedRun:
        """See `Plan.resolve`; what was asked for is a budget for the policy to aim at."""
        steps = len(sigmas) - 1
        budget = (
            self.request.asked_for(steps)
            if self.default_ratio is None
            else self.request.budget_for(steps, self.default_ratio)
        )
        if budget is not None and budget > steps:
            raise _more_than_the_run(budget, steps)
        return DecidedRun(self.policy, RunConditions(sigmas, budget))


def _more_than_the_run(budget: int, steps: int) -> BudgetError:
    return BudgetError("budget", budget, f"the run has {steps} steps", f"Use 2 … {steps}")


def _schedule(policy: Policy, budget: int) -> Schedule:
    policy.budgets.require(budget, policy.name)
    return policy.schedule(budget)
