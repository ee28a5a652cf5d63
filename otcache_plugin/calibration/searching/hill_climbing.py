"""A climb: one coordinate of the best schedule after the other, until none improves it.

A coordinate is a computed step or a look-back. That moving one step by one is often all it takes,
no search of all gaps at once sees.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from otcache_policies import Schedule

from otcache_plugin.calibration.measuring.losses import pooled
from otcache_plugin.calibration.searching.candidates import Trial, losses_on
from otcache_plugin.calibration.searching.journal import searched_trial
from otcache_plugin.calibration.settings import SHIFTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_plugin.calibration.searching.candidates import (
        ScheduleSearch,
        Searching,
        SearchTask,
    )


def climb(
    search: ScheduleSearch,
    task: SearchTask,
    part: str,
    coordinates: Sequence[Callable[[Schedule], list[Schedule]]],
    trials: int,
) -> Searching:
    """Improve the best schedule in one coordinate after the other, until none improves it.

    Candidates are tried on the first batches, and those that are ahead there on all.

    Args:
        search: what was found so far.
        task: of the search.
        part: of the search that this is, as the journal names it.
        coordinates: each gives the schedules that differ from one in it.
        trials: candidates altogether.

    Returns:
        The search with every candidate that was run on all pairs.
    """
    panel, kept = task.panel, task.study(part)
    best = search.best(1)[0].schedule
    (best_losses,) = yield from losses_on([best], panel.batches)
    number, unchanged, tried = 0, 0, 0
    while unchanged < len(coordinates) and tried < trials:
        others = coordinates[number % len(coordinates)](best)[: trials - tried]
        first = yield from losses_on(others, panel.batches[: panel.first])
        ahead = [
            other
            for other, losses in zip(others, first, strict=True)
            if pooled(losses) < pooled(best_losses[: len(losses)])
        ]
        complete = yield from losses_on(ahead, panel.batches)
        judged = dict(zip(ahead, complete, strict=True))
        for other in others:
            trial = Trial(other, pooled(judged[other])) if other in judged else None
            search = search.with_trial(trial)
            kept.keep(searched_trial(other, None if trial is None else trial.loss))
            task.on_trial()
        tried, unchanged, number = tried + len(others), unchanged + 1, number + 1
        better = min(judged, key=lambda other: pooled(judged[other]), default=best)
        if better in judged and pooled(judged[better]) < pooled(best_losses):
            best, best_losses, unchanged = better, judged[better], 0
    return search


def all_coordinates(
    schedule: Schedule, max_look_back: int
) -> list[Callable[[Schedule], list[Schedule]]]:
    """Return every inner step, then every look-back, of schedules of this one's budget."""
    segments = schedule.budget - 1
    return [
        *(partial(_moved, index) for index in range(1, segments)),
        *look_back_coordinates(schedule, max_look_back),
    ]


def look_back_coordinates(
    schedule: Schedule, max_look_back: int
) -> list[Callable[[Schedule], list[Schedule]]]:
    """Return every look-back of schedules of this one's budget.

    The edge table knows the best one of a segment when every step before it was computed. At a
    small budget most were not, so what it says is only where to begin.
    """
    return [
        partial(_looking_back, segment, max_look_back) for segment in range(schedule.budget - 1)
    ]


def _moved(index: int, schedule: Schedule) -> list[Schedule]:
    """Return the schedules whose step of that index lies elsewhere between its neighbours."""
    steps, total = schedule.computed_steps, schedule.num_inference_steps
    return [
        Schedule((*steps[:index], place, *steps[index + 1 :]), total, schedule.look_backs)
        for shift in SHIFTS
        if steps[index - 1] < (place := steps[index] + shift) < steps[index + 1]
    ]


def _looking_back(segment: int, max_look_back: int, schedule: Schedule) -> list[Schedule]:
    """Return the schedules with another look-back in that segment, none where no step is cached."""
    if schedule.gaps[segment] == 1:
        return []
    own = schedule.look_backs
    return [
        schedule.with_look_backs((*own[:segment], look_back, *own[segment + 1 :]))
        for look_back in range(1, max_look_back + 1)
        if look_back != own[segment]
    ]
