"""Candidates: what a search tries, the pairs it is judged on, and what was found.

A search measures nothing itself. It is a generator that yields what it wants measured and is sent
the losses, so that several can go on side by side and a replayed one takes no time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from otcache_plugin.calibration.measuring.trimmed_loss import pooled

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray
    from otcache_policies import Schedule

    from otcache_plugin.calibration.measuring.units import Batch, Losses, LossRequest


@dataclass(frozen=True)
class Panel:
    """The pairs that candidates are judged on.

    Attributes:
        batches: all of them, in their order.
        first: how many of them a candidate must survive before it is run on the others.
    """

    batches: tuple[Batch, ...]
    first: int


@dataclass(frozen=True)
class Trial:
    """One candidate that was run on all pairs of its panel."""

    schedule: Schedule
    loss: float


@dataclass(frozen=True)
class ScheduleSearch:
    """What a search found.

    Attributes:
        warm_start: the schedule it began with.
        complete: every candidate that was run on all pairs, in order.
        best_losses: the best loss so far, first the warm start's, then after each trial.
    """

    warm_start: Trial
    complete: tuple[Trial, ...]
    best_losses: tuple[float, ...]

    def with_trial(self, trial: Trial | None) -> ScheduleSearch:
        """Return the search after one more trial, None for one that was not run on all pairs."""
        best = self.best_losses[-1]
        if trial is None:
            return replace(self, best_losses=(*self.best_losses, best))
        losses = (*self.best_losses, min(best, trial.loss))
        return ScheduleSearch(self.warm_start, (*self.complete, trial), losses)

    def best(self, count: int) -> list[Trial]:
        """Return the best candidates of distinct steps, best first, none worse than the start."""
        found: dict[tuple[int, ...], Trial] = {}
        for trial in sorted((self.warm_start, *self.complete), key=lambda trial: trial.loss):
            found.setdefault(trial.schedule.computed_steps, trial)
        return [each for each in found.values() if each.loss <= self.warm_start.loss][:count]


def losses_on(
    schedules: Sequence[Schedule], batches: Sequence[Batch]
) -> Generator[list[LossRequest], Losses, list[NDArray[np.float64]]]:
    """Ask for the losses of all schedules on all batches: an `(n,)` array per schedule."""
    if not schedules or not batches:
        return [np.empty(0) for _ in schedules]
    given = yield [(schedule, batch) for schedule in schedules for batch in batches]
    return [np.concatenate([given[schedule, batch] for batch in batches]) for schedule in schedules]


def begin(
    warm_start: Schedule, panel: Panel
) -> Generator[list[LossRequest], Losses, ScheduleSearch]:
    """A search that has tried nothing but its warm start."""
    (losses,) = yield from losses_on([warm_start], panel.batches)
    first = Trial(warm_start, pooled(losses))
    return ScheduleSearch(first, (), (first.loss,))
