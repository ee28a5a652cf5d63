"""Which runs are begun like which: schedules that differ late share most of what they compute.

What is asked for together is run in the order in which neighbours share the longest beginnings, and
of every batch the outputs of the last few runs are kept. Which of them a run begins like follows
from what was asked for and from nothing else, so that whoever measures it counts the same steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from otcache_plugin.calibration.measuring.units import Evaluate, ReplayPlan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from otcache_policies import Schedule

    from otcache_plugin.calibration.measuring.units import Unit
    from otcache_plugin.evaluation.batches import Batch

MOST_KEPT = 4
"""Runs of a batch whose outputs are kept for those to come: of a search that is 29 % of its steps
saved, of 8 it would be 32 %, of all 38 %."""


class Planner(Protocol):
    """Says in which order units are measured, and what each run begins like."""

    def plan(self, units: Iterable[Unit]) -> list[Unit]:
        """Return the units in the order to measure them in."""
        ...


class FromTheStart:
    """Has every run made in full: an executor that keeps no outputs has none to begin with."""

    def plan(self, units: Iterable[Unit]) -> list[Unit]:
        """Return the units as they were given."""
        return list(dict.fromkeys(units))


class ReplayPlanner:
    """Plans the runs of one search, or of one list.

    Args:
        stage: number of what is asked for side by side.
        search: which of several in it.
        known: what was measured before; it is run no more, so nothing can begin like it.
    """

    def __init__(self, stage: int, search: str, known: Collection[Unit]) -> None:
        self._stage = stage
        self._search = search
        self._known = known
        self._planned: set[Unit] = set()
        self._kept: dict[Batch, tuple[Schedule, ...]] = {}

    def plan(self, units: Iterable[Unit]) -> list[Unit]:
        """Return units in the order to measure them in, each saying what its run begins like."""
        given = dict.fromkeys(units)
        fresh = {
            unit: unit.schedule.windows
            for unit in given
            if isinstance(unit, Evaluate) and unit not in self._known and unit not in self._planned
        }
        self._planned.update(fresh)
        # Neighbours in the order of words share the longest beginnings.
        ordered = sorted(fresh, key=fresh.__getitem__)
        return [
            *(unit for unit in given if unit not in fresh),
            *(replace(unit, replay=self._plan_of(unit)) for unit in ordered),
        ]

    def _plan_of(self, unit: Evaluate) -> ReplayPlan:
        schedule, kept = unit.schedule, self._kept.get(unit.batch, ())
        shared = {each: len(schedule.shared_steps(each)) for each in kept}
        after = max(reversed(kept), key=shared.__getitem__, default=None)
        if after is not None and shared[after]:
            # The one that was of use is the last to go.
            kept = (*(each for each in kept if each != after), after)
        else:
            after = None
        self._kept[unit.batch] = (*kept, schedule)[-MOST_KEPT:]
        return ReplayPlan(self._stage, self._search, after, self._kept[unit.batch])
