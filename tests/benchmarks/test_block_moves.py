"""Neighbours of a schedule, against all schedules; descents, against their neighbours."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from otcache_policies import Schedule
from otcache_policies.displacement import Candidates, increments

from benchmarks.rounds.block_moves import descend_blocks, neighbours

STEPS = 9
SIGMAS = np.linspace(1.0, 0.0, STEPS + 1) ** 1.3


def every_schedule(budget: int, max_look_back: int) -> list[Schedule]:
    """All of them; a segment without a cached step has one look-back."""
    found = []
    for inner in itertools.combinations(range(1, STEPS - 1), budget - 2):
        steps = [0, *inner, STEPS - 1]
        choices = [range(1, max_look_back + 1 if gap > 1 else 2) for gap in np.diff(steps).tolist()]
        found += [Schedule(steps, STEPS, list(each)) for each in itertools.product(*choices)]
    return found


def is_one_change(one: Schedule, other: Schedule) -> bool:
    """Whether a block of inner steps moved by up to three together, or one look-back changed."""
    shifts = np.subtract(other.computed_steps, one.computed_steps)
    if not shifts.any():
        changed = np.flatnonzero(np.not_equal(one.look_backs, other.look_backs))
        # One velocity is all that there is before the second computed step.
        return len(changed) == 1 and changed[0] > 0
    moved = np.flatnonzero(shifts)
    together = (np.diff(moved) == 1).all() and len(set(shifts[moved].tolist())) == 1
    # Where nothing is cached after it the look-back is 1, whatever it was.
    kept = np.where(np.diff(other.computed_steps) > 1, one.look_backs, 1)
    return bool(together and abs(shifts[moved[0]]) <= 3 and np.array_equal(kept, other.look_backs))


@pytest.mark.parametrize("seed", range(6))
def test_neighbours_are_one_change_away_and_all_that_are(seed: int) -> None:
    every = every_schedule(5, 3)
    schedule = every[int(np.random.default_rng(seed).integers(len(every)))]
    near = neighbours(schedule, 3)
    found = [near.schedule(index) for index in range(len(near))]
    assert len(found) == len(set(found))
    assert set(found) == {each for each in every if is_one_change(schedule, each)}


def test_the_first_segments_look_back_changes_nothing() -> None:
    """Hence it is not among the changes."""
    schedules = [Schedule([0, 4, 8], STEPS, [look_back, 2]) for look_back in (1, 2, 3)]
    found = increments(Candidates.of(schedules), SIGMAS, np.diff(SIGMAS))
    np.testing.assert_array_equal(found[1:], found[:1].repeat(2, axis=0))


def test_where_there_is_nothing_to_change_a_descent_ends() -> None:
    """The first and the last step stay."""
    schedule = Schedule([0, 8], STEPS, [1])
    assert len(neighbours(schedule, 3)) == 0
    assert descend_blocks(lambda each: np.zeros(len(each)), schedule, 3) == schedule


@pytest.mark.parametrize("same", [-np.inf, np.inf, np.nan, 1.0])
def test_where_nothing_is_lower_a_descent_ends(same: float) -> None:
    asked = []

    def value(candidates: Candidates) -> NDArray[np.float64]:
        asked.append(len(candidates))
        return np.full(len(candidates), same)

    schedule = Schedule([0, 4, 8], STEPS, [1, 1])
    assert descend_blocks(value, schedule, 3) == schedule
    assert len(asked) == 2


def test_a_descent_ends_at_the_lowest_of_a_simple_value() -> None:
    """Distance to given steps, and look-backs that cost a little."""

    def value(candidates: Candidates) -> NDArray[np.float64]:
        away = np.square(candidates.steps - np.array([0, 2, 3, 6, 8])).sum(axis=1)
        found: NDArray[np.float64] = away + candidates.look_backs.sum(axis=1) / 100
        return found

    found = descend_blocks(value, Schedule([0, 5, 6, 7, 8], STEPS, [3, 1, 1, 1]), 3)
    assert found.computed_steps == (0, 2, 3, 6, 8)
    assert found.look_backs[1:] == (1, 1, 1)


@pytest.mark.parametrize("seed", range(4))
def test_no_change_lowers_where_a_descent_ends(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = {each: float(rng.random()) for each in every_schedule(5, 3)}

    def value(candidates: Candidates) -> NDArray[np.float64]:
        return np.array([values[candidates.schedule(each)] for each in range(len(candidates))])

    start = next(iter(values))
    end = descend_blocks(value, start, 3)
    near = neighbours(end, 3)
    assert values[end] <= values[start]
    assert values[end] <= value(near).min()
