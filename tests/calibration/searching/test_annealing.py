"""BudCache's search, on losses whose optimum is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from driven_search import EIGHT_BATCHES, ONE_BATCH, disturbing, drive
from otcache_policies import Schedule

from otcache_plugin.calibration.searching.annealing import ITERATIONS, Annealing, most_trials

WANTED = np.array([0, 3, 5, 8, 12, 19])


def distance(schedule: Schedule, pair: int) -> float:
    return 0.1 + float(np.square(np.array(schedule.computed_steps) - WANTED).sum()) + pair


def annealing(budget: int, steps: int, kept: list[Any] | None = None, **changes: Any) -> Annealing:
    def keep(schedule: Schedule, error: float) -> None:
        if kept is not None:
            kept.append((schedule, error))

    arguments = {"look_back": 2, "seed": 0, "batches": ONE_BATCH.batches, **changes}
    return Annealing(budget, steps, on_trial=keep, **arguments)


def test_it_finds_a_schedule_that_every_neighbour_is_worse_than() -> None:
    found = drive(annealing(6, 20).search(), distance).result
    assert found.computed_steps == tuple(WANTED.tolist())
    # A segment of several steps looks back two, one without cached steps one.
    assert found.look_backs == (2, 2, 2, 2, 2)
    assert drive(annealing(6, 20).search(), distance).result == found


def test_on_a_rugged_loss_it_ends_where_no_single_move_is_better() -> None:
    """By the mean over all pairs, whose best and worst are not left out."""
    loss = disturbing(3)
    pairs = range(32)

    def mean(steps: set[int]) -> float:
        computed = sorted(steps)
        looks = [1 if gap == 1 else 2 for gap in np.diff(computed)]
        schedule = Schedule(computed, 16, looks)
        return float(np.mean([loss(schedule, pair) for pair in pairs]))

    kept: list[tuple[Schedule, float]] = []
    search = annealing(5, 16, kept, batches=EIGHT_BATCHES.batches).search()
    found = drive(search, loss).result
    steps = set(found.computed_steps)
    moves = [
        steps - {old} | {new}
        for old in steps - {0, 15}
        for new in set(range(max(1, old - 3), min(15, old + 4))) - steps
    ]
    assert mean(steps) <= min(map(mean, moves))
    assert mean(steps) == pytest.approx(min(error for _, error in kept))
    assert ITERATIONS < len(kept) <= most_trials(5)
    # Annealing goes uphill too, but always by one or two steps at once.
    first = [set(schedule.computed_steps) for schedule, _ in kept[: 1 + ITERATIONS]]
    assert len({tuple(sorted(each)) for each in first}) > 50


@pytest.mark.parametrize("worst", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_the_worst(worst: float) -> None:
    def loss(schedule: Schedule, pair: int) -> float:
        return worst if schedule.computed_steps[1] > 4 else distance(schedule, pair)

    assert drive(annealing(6, 20).search(), loss).result.computed_steps == tuple(WANTED.tolist())


def test_two_steps_leave_nothing_to_move() -> None:
    search = drive(annealing(2, 9).search(), lambda schedule, pair: 1.0)
    assert search.result == Schedule([0, 8], 9, [2])
    assert len(search.requests) == 1
