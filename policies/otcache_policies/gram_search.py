"""Minimising a quadratic form over the schedules of one budget.

A beam search finds schedules near which the minimum is likely to lie (`beam_search`), and moving
their steps leads down from there (`step_moves`). Both work on one matrix for all pairs, in the few
coordinates that it needs: each pair is weighed by the inverse of its value at a schedule, which has
the slope of the mean logarithm there and is nowhere below it. The mean logarithm itself decides
between the best of what that finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from otcache_policies.beam_search import beam_search
from otcache_policies.displacement import Candidates
from otcache_policies.quadratic_form import QuadraticForm
from otcache_policies.schedule import Schedule
from otcache_policies.state_form import StateForm
from otcache_policies.step_moves import descend, moves
from otcache_policies.uniform import UniformPolicy

__all__ = ["minima", "optimise"]

EXTRA_DAMPING = (0.0, 0.2)
"""How much more than the form the beams are damped: with less damping, segments may make up for
others that come later; with more, each has to be good by itself."""

APART_DAMPING = (0.0, 0.2, 0.5)
"""Likewise where minima far from each other are wanted."""

DESCENTS = 6
"""Schedules from the beams whose steps are moved."""

FOLLOWED = 2
"""Schedules that are followed to where no move of theirs lowers the mean logarithm."""

SCREENED = 64
"""Moves whose mean logarithm is taken: so many of the lowest by the weighted sum."""

ROUNDING = 1e-9
"""Change of a mean logarithm that counts as none."""


def optimise(
    form: QuadraticForm, budget: int, max_look_back: int, starts: Sequence[Schedule] = ()
) -> Schedule:
    """Return the schedule of a budget with the smallest mean logarithm of the pairs' values.

    Pairs count by the decibels that they gain, not by how large their errors are.

    Args:
        form: What is minimised.
        budget: Computed steps, from 2 to T.
        max_look_back: Largest look-back of a segment.
        starts: Schedules of that budget that are known to be good, with look-backs up to the
            largest: what is returned is at least as good as the best of them.
    """
    known = _ranked(form, [*_even(form, budget, max_look_back), *starts])
    states = _states(form, known[0], max_look_back)
    if states is None:
        return known[0]
    pool = [*known[:FOLLOWED], *_from_beams(states, budget)]
    lowered = _ranked(form, [known[0], *(descend(states, each) for each in pool)])
    return _ranked(form, [_followed(form, each, max_look_back) for each in lowered[:FOLLOWED]])[0]


def minima(form: QuadraticForm, budget: int, max_look_back: int, near: Schedule) -> list[Schedule]:
    """Return schedules of a budget that no move of a step lowers, the best first.

    They lie wherever beams lead to: where the form is not to be trusted, one that is not its lowest
    may well be better.

    Args:
        form: What is minimised.
        budget: Computed steps, from 2 to T.
        max_look_back: Largest look-back of a segment.
        near: A good schedule of that budget: pairs are weighed by the inverse of their values at
            it.
    """
    states = _states(form, near, max_look_back)
    if states is None:
        return [near]
    beams = (
        each for damped in _damped(states, APART_DAMPING) for each in beam_search(damped, budget)
    )
    return _ranked(form, [descend(states, each) for each in dict.fromkeys(beams)])


def _followed(form: QuadraticForm, schedule: Schedule, max_look_back: int) -> Schedule:
    """Return where a schedule's steps are moved to while that lowers the mean logarithm."""
    lowest = float(form.pooled(Candidates.of([schedule]))[0])
    while schedule.budget > 2:
        states = _states(form, schedule, max_look_back)
        if states is None:
            break
        near = moves(states, schedule, SCREENED)
        values = form.pooled(near)
        if values.min() >= lowest - ROUNDING:
            break
        schedule, lowest = near.schedule(int(values.argmin())), float(values.min())
    return schedule


def _states(form: QuadraticForm, schedule: Schedule, max_look_back: int) -> StateForm | None:
    """Return the form of all pairs, each weighed by the inverse of its value at a schedule.

    None where one of the values is 0: no mean logarithm can be lower.
    """
    values = form.values(Candidates.of([schedule]))[0]
    if not (values > 0).all():
        return None
    return StateForm.of(form.weighted(1 / values), max_look_back)


def _from_beams(states: StateForm, budget: int) -> list[Schedule]:
    """Return the best few schedules of beams that are damped more and less."""
    found: dict[Schedule, float] = {}
    for damped in _damped(states, EXTRA_DAMPING):
        for schedule in beam_search(damped, budget):
            found[schedule] = states.value(schedule)
    return sorted(found, key=found.__getitem__)[:DESCENTS]


def _damped(states: StateForm, extra: Sequence[float]) -> list[StateForm]:
    """Return forms that are damped more."""
    return [replace(states, damping=min(states.damping + each, 1.0)) for each in extra]


def _ranked(form: QuadraticForm, schedules: Sequence[Schedule]) -> list[Schedule]:
    """Return schedules without repetition, the best first, of equals the earlier."""
    distinct = list(dict.fromkeys(schedules))
    order = np.argsort(form.pooled(Candidates.of(distinct)), kind="stable")
    return [distinct[index] for index in order.tolist()]


def _even(form: QuadraticForm, budget: int, max_look_back: int) -> list[Schedule]:
    """Return evenly spaced schedules with every look-back."""
    total = form.num_inference_steps
    return [UniformPolicy(total, each).schedule(budget) for each in range(1, max_look_back + 1)]
