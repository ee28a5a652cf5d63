"""The last heat that `benchmarks.last_heat` compares to ours: rounds that learn from all runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from known_race import PAIRS, STEPS, KnownContext, displaced, known_recording
from otcache_policies import EdgeTable, Schedule

from benchmarks.last_heat import WithoutLastHeat
from benchmarks.rounds.last_heat import RoundsByASurrogate
from otcache_plugin.calibration.racing.plan import RacePlan
from otcache_plugin.calibration.racing.race import Race

BUDGETS = range(4, 7)


@dataclass(frozen=True)
class Generous(RacePlan):
    """A plan with steps for many rounds."""

    def left(self, spent: int) -> int:
        return max(0, 3_000 - spent)


def late(schedule: Schedule) -> float:
    """What makes schedules whose second computed step comes late worse than the form knows."""
    return float(np.exp(schedule.computed_steps[1]))


def real_error(schedule: Schedule, pair: int) -> float:
    """The mean square of where a run ends, in decibels."""
    ends = late(schedule) * displaced(schedule, range(pair, pair + 1))
    return float(10 * np.log10(np.square(ends).mean()))


def run(edges: EdgeTable, plan: RacePlan) -> Any:
    """Return the context of a race that has been run."""
    context: Any = KnownContext(real_error, off=late)
    Race(plan, known_recording(edges), context, RoundsByASurrogate).run()
    return context


def mean(schedule: Schedule) -> float:
    """Over fresh pairs."""
    return float(np.mean([real_error(schedule, pair) for pair in range(PAIRS // 2, PAIRS)]))


def test_rounds_find_what_the_form_does_not_know(edges: EdgeTable) -> None:
    """Each learns from the one before: what they find is better than all that had run."""
    context = run(edges, Generous(STEPS, PAIRS, BUDGETS))
    for budget in BUDGETS:
        newcomers = context.schedules("last heat", budget)
        before = [
            *context.schedules("first heat", budget),
            *context.schedules("heat of fitted candidates", budget),
        ]
        assert min(map(mean, newcomers)) < min(map(mean, before)) - 3.0
        assert not set(newcomers) & set(before)
        assert len(newcomers) == len(set(newcomers))
    # The smallest budget is tried again, and comes out better.
    first, *others = context.schedules("last heat", 4)
    assert min(map(mean, others)) < mean(first) - 3.0


def test_rounds_take_no_more_than_there_is(edges: EdgeTable) -> None:
    plan = RacePlan(STEPS, PAIRS, BUDGETS)
    assert run(edges, plan).denoising_steps <= plan.steps


def test_where_nothing_is_left_a_race_ends_with_its_finals(edges: EdgeTable) -> None:
    context = run(edges, WithoutLastHeat(STEPS, PAIRS, BUDGETS))
    assert [stage for stage, *_ in context.asked][-1] == "finals on fresh pairs"
