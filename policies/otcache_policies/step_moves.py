"""Better schedules from good ones: computed steps are moved, one after the other.

A step goes anywhere between its two neighbours, and the look-backs of the two segments that meet
there are chosen with it. What lies before it is a state and what comes after it a quadratic
function of the state, so that all places and look-backs are valued together.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from otcache_policies.displacement import Candidates
from otcache_policies.schedule import Schedule
from otcache_policies.state_form import Rest, StateForm

__all__ = ["descend", "moves"]

ROUNDING = 1e-9
"""A gain up to this share of a value counts as none: otherwise two schedules could take turns."""

Floats = NDArray[np.float64]
Steps = NDArray[np.int_]


def descend(form: StateForm, schedule: Schedule) -> Schedule:
    """Return where moving steps ends: no step has a better place between its neighbours."""
    steps, look_backs = _arrays(schedule)
    value, lower = math.inf, sys.float_info.max
    while lower < value * (1 - ROUNDING):
        value = lower
        for number, values in _by_step(form, steps, look_backs):
            place, first, second = np.unravel_index(values.argmin(), values.shape)
            lower = float(values[place, first, second])
            steps[number] = steps[number - 1] + 1 + place
            look_backs[number - 1 : number + 1] = first, second
    return _candidates(form, steps[None], look_backs[None]).schedule(0)


def moves(form: StateForm, schedule: Schedule, most: int) -> Candidates:
    """Return the schedules with one step anywhere between its neighbours, the lowest first.

    The two look-backs beside the step are any, too. Each schedule with a step elsewhere is there
    once; one whose steps all stay may be there once for every step.

    Args:
        form: What they are valued by.
        schedule: A schedule of three computed steps or more.
        most: How many to return at most.
    """
    steps, look_backs = _arrays(schedule)
    lowest, moved, windows = [], [], []
    for number, values in _by_step(form, steps, look_backs):
        order = np.argsort(values, axis=None, kind="stable")[:most]
        place, first, second = np.unravel_index(order, values.shape)
        lowest.append(values[place, first, second])
        moved.append(np.tile(steps, (len(order), 1)))
        moved[-1][:, number] = steps[number - 1] + 1 + place
        windows.append(np.tile(look_backs, (len(order), 1)))
        windows[-1][:, number - 1 : number + 1] = np.stack([first, second], axis=1)
    ranked = np.concatenate(lowest)
    order = np.argsort(ranked, kind="stable")[: min(most, np.isfinite(ranked).sum())]
    return _candidates(form, np.concatenate(moved)[order], np.concatenate(windows)[order])


def _by_step(form: StateForm, steps: Steps, look_backs: Steps) -> Iterator[tuple[int, Floats]]:
    """Yield each inner step's number, and the values with it anywhere between its neighbours.

    Steps that have been yielded may be changed in the arrays, with their two look-backs: the values
    of those that follow are of what the arrays then hold.
    """
    rests = _rests(form, steps, look_backs)
    state, so_far = form.start(), np.zeros(())
    for number in range(1, len(steps) - 1):
        begin, end = int(steps[number - 1]), int(steps[number + 1])
        yield number, _values(form, state, so_far, (begin, end), rests[number + 1])
        following = form.after(state, begin, int(look_backs[number - 1]), int(steps[number]))
        so_far = so_far + form.own(state, following)
        state = following


def _values(
    form: StateForm, state: Floats, so_far: Floats, between: tuple[int, int], rest: Rest
) -> Floats:
    """Return the values with a step anywhere between two others: (places, K, K)."""
    begin, end = between
    places = np.arange(begin + 1, end)[:, None]
    states = form.after(state, begin, form.look_backs, places)
    rests = form.before(rest, places, form.look_backs, end)
    values = form.values(states, so_far + form.own(state, states), rests)
    # Without a cached step all look-backs are the same: one stands for them.
    values[0, 1:] = np.inf
    values[-1, :, 1:] = np.inf
    return values


def _rests(form: StateForm, steps: Steps, look_backs: Steps) -> list[Rest]:
    """Return what comes after each computed step."""
    rests = [form.end()]
    for number in reversed(range(len(look_backs))):
        begin, end = int(steps[number]), int(steps[number + 1])
        rests.append(form.before(rests[-1], begin, int(look_backs[number]), end))
    return rests[::-1]


def _arrays(schedule: Schedule) -> tuple[Steps, Steps]:
    """Return a schedule's steps, and its look-backs from 0."""
    return np.array(schedule.computed_steps), np.array(schedule.look_backs) - 1


def _candidates(form: StateForm, steps: Steps, look_backs: Steps) -> Candidates:
    return Candidates(steps, look_backs + 1, form.num_inference_steps)
