"""Candidates: what a search tries, the pairs it is judged on, and what was found.

A search measures nothing itself. It is a generator that yields what it wants measured and is sent
the losses, so that several can go on side by side and a replayed one takes no time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from otcache_plugin.calibration.measuring.losses import pooled
from otcache_plugin.evaluation.batches import Batch
from otcache_plugin.plugins.calibrating import (
    Losses,
    LossRequest,
    Search,
    Study,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from otcache_policies import Schedule


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


Searching = Search[ScheduleSearch]
"""A search under way: it asks for losses, is sent them, and returns what it found."""


@dataclass(frozen=True)
class SearchTask:
    """What a search is asked to do: find a schedule of the warm start's budget with a lower loss.

    Attributes:
        warm_start: where to begin, and what is never done worse than.
        panel: the pairs to judge on.
        max_look_back: the largest look-back to try.
        seed: of whatever is random.
        study: gives the journal's study of a part of the search, by the part's name; every trial
            is to be kept in one.
        on_trial: to be called after every trial.
    """

    warm_start: Schedule
    panel: Panel
    max_look_back: int
    seed: int
    study: Callable[[str], Study]
    on_trial: Callable[[], None] = lambda: None


def losses_on(
    schedules: Sequence[Schedule], batches: Sequence[Batch]
) -> Generator[list[LossRequest], Losses, list[NDArray[np.float64]]]:
    """Ask for the losses of all schedules on all batches: an `(n,)` array per schedule."""
    if not schedules or not batches:
        return [np.empty(0) for _ in schedules]
    given = yield [(schedule, batch) for schedule in schedules for batch in batches]
    return [np.concatenate([given[schedule, batch] for batch in batches]) for schedule in schedules]


def begin(warm_start: Schedule, panel: Panel) -> Searching:
    """Begin a search: nothing is tried but its warm start."""
    (losses,) = yield from losses_on([warm_start], panel.batches)
    first = Trial(warm_start, pooled(losses))
    return ScheduleSearch(first, (), (first.loss,))
