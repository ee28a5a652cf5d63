"""What one run follows: a schedule that is known before it begins, or a policy that decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from otcache_policies import Decision, FieldError, Schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_policies import Decider, DecidingPolicy, RunConditions


class Adaptation(StrEnum):
    """How a schedule came to fit a run whose steps or sigmas are not the calibrated ones."""

    OPTIMISED = "optimised on the run's own sigmas"
    CARRIED_OVER = "carried over"


@dataclass(frozen=True)
class DocumentOrigin:
    """Where a calibrated policy came from, for reports, and notes on how it was found."""

    source: str
    model: str
    revision: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScheduledRun:
    """A schedule for one run.

    Attributes:
        schedule: of as many steps as the run.
        adaptation: how it came to fit the run; None where it is for such a run anyway.
        origin: the policy document that it rests on, if any.
        notes: what else to know of the run, a sentence each.
    """

    schedule: Schedule
    adaptation: Adaptation | None = None
    origin: DocumentOrigin | None = None
    notes: tuple[str, ...] = ()
    aims_at: ClassVar[None] = None

    def noting(self, notes: tuple[str, ...]) -> ScheduledRun:
        """Return the same run with notes before its own."""
        return replace(self, notes=(*notes, *self.notes))

    @property
    def num_inference_steps(self) -> int:
        """Steps of the run, T."""
        return self.schedule.num_inference_steps

    @property
    def planned_steps(self) -> tuple[int, ...]:
        """The steps that will be computed."""
        return self.schedule.computed_steps

    def reusing_the_last_velocity(self) -> ScheduledRun:
        """Return the same steps with look-back 1."""
        steps = Schedule(self.schedule.computed_steps, self.num_inference_steps)
        return replace(self, schedule=steps)

    @property
    def largest_look_back(self) -> int:
        """The largest look-back of a cached step; a segment of gap 1 has none."""
        return max((each.look_back for each in self.schedule.segments if each.gap > 1), default=1)

    def begin(self, observation: Any) -> None:
        """Be shown what there is before the first step, which a schedule does not look at."""

    def computes(self, step: int, observation: Any) -> bool:
        """Return whether a step is computed; a schedule does not look at the observation."""
        return self.schedule.is_computed(step)

    def look_back_at(self, step: int) -> int:
        """Return the look-back of a cached step."""
        return self.schedule.look_back_at(step)

    def look_backs(self, computed_steps: Sequence[int]) -> tuple[int, ...]:
        """Return the look-backs of the schedule's segments, however far the run came."""
        return self.schedule.look_backs


class DecidedRun:
    """A policy that decides one run, step by step.

    Args:
        policy: that decides.
        conditions: of the run.
        origin: the policy document that it rests on, if any.
        notes: what else to know of the run, a sentence each.
    """

    adaptation = None
    planned_steps: tuple[int, ...] = ()

    def __init__(
        self,
        policy: DecidingPolicy[Any],
        conditions: RunConditions,
        origin: DocumentOrigin | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.origin = origin
        self.notes = notes
        self._policy = policy
        self._conditions = conditions
        self._decider: Decider[Any] | None = None

    def noting(self, notes: tuple[str, ...]) -> DecidedRun:
        """Return such a run that has not begun, with notes before its own."""
        return DecidedRun(self._policy, self._conditions, self.origin, (*notes, *self.notes))

    @property
    def num_inference_steps(self) -> int:
        """Steps of the run, T."""
        return self._conditions.num_inference_steps

    @property
    def aims_at(self) -> int | None:
        """The budget to aim at, None where none was asked for."""
        return self._conditions.budget

    @property
    def largest_look_back(self) -> int:
        """The look-back of every cached step."""
        return self._policy.look_back

    def begin(self, observation: Any) -> None:
        """Begin the policy with what it observes before the first step.

        Raises:
            BudgetError: it cannot aim at the budget that was asked for.
        """
        self._decider = self._policy.begin(self._conditions, observation)

    def computes(self, step: int, observation: Any) -> bool:
        """Return whether a step is computed: the first and the last always, the others as decided.

        Args:
            step: the one about to be taken; each is asked about once, in their order.
            observation: what the policy observes, before it.

        Raises:
            FieldError: the policy answers with something else than a Decision.
        """
        if step == 0:
            return True
        if step == self.num_inference_steps - 1:
            self._decider = None  # It may hold tensors, and is asked nothing more.
            return True
        assert self._decider is not None, "a run begins with its first step"
        decision = self._decider.decide(step, observation)
        if not isinstance(decision, Decision):
            raise FieldError(
                "decide",
                decision,
                f"the answer of policy {self._policy.name!r} to step {step} is not a Decision",
                "Return Decision.COMPUTE or Decision.CACHE",
            )
        return decision is Decision.COMPUTE

    def look_back_at(self, step: int) -> int:
        """Return the look-back of a cached step, the policy's own on all of them."""
        return self._policy.look_back

    def look_backs(self, computed_steps: Sequence[int]) -> tuple[int, ...]:
        """Return one look-back per segment of what was computed."""
        return (self._policy.look_back,) * (len(computed_steps) - 1)


Resolution = ScheduledRun | DecidedRun
"""What `Plan.resolve` answers with. An executor shows it the first observation (`begin`) and asks
it before every step (`computes`), whichever of the two it is."""
