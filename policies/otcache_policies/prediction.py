"""Schedules between two calibrated ones: the paper's warp, and one that vanishes at both.

OTCache (arXiv 2606.31026, Eqs. 8 to 10) samples the geodesic of two schedules with the same warp at
every budget between theirs. Right beside a calibrated schedule the warp then applies in full, and
on it not at all, so that the schedules of neighbouring budgets jump. `vanishing_warp` goes over
into either schedule, in its steps and in its look-backs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from otcache_policies._validation import as_positive
from otcache_policies.errors import FieldError
from otcache_policies.schedule import Schedule
from otcache_policies.transport import (
    geodesic_weights,
    inherited_look_backs,
    lift,
    predict,
    realise,
    require_between,
)

__all__ = ["Warp", "constant_warp", "vanishing_curve", "vanishing_warp"]

Warp = Callable[[Schedule, Schedule, int, float], Schedule]
"""What predicts the schedule of a budget from those of a smaller and a larger one, and rho."""


def constant_warp(smaller: Schedule, larger: Schedule, budget: int, rho: float) -> Schedule:
    """Return the paper's prediction; its segments look back as those of the smaller schedule do.

    The paper does not say how far they look back. Look-backs that were searched together with the
    steps hold for neighbouring schedules too.

    Args:
        smaller: Schedule at the smaller budget.
        larger: Schedule at the larger budget, for the same number of steps.
        budget: A budget between the two.
        rho: Exponent of the warp, finite and above 0.

    Raises:
        ScheduleError: The schedules differ in steps, or the first one's budget is not the smaller.
        BudgetError: The budget is outside the two.
        FieldError: rho is not finite and above 0.
    """
    return _inheriting(predict(smaller, larger, budget, rho), smaller)


def vanishing_warp(smaller: Schedule, larger: Schedule, budget: int, rho: float) -> Schedule:
    """Return a prediction that goes over into either schedule as the budget nears its own.

    Its steps sample `vanishing_curve`; its segments look back as those of the nearer schedule do.
    At either schedule's budget it is that schedule.

    Args, Raises: As `constant_warp`.
    """
    require_between(smaller, larger, budget)
    for calibrated in (smaller, larger):
        if budget == calibrated.budget:
            return calibrated
    curve = vanishing_curve(smaller, larger, budget, rho)
    steps = realise(curve, budget, smaller.num_inference_steps, rho=1.0)
    nearer = smaller if position(smaller.budget, larger.budget, budget) < 0.5 else larger
    return _inheriting(steps, nearer)


def vanishing_curve(
    smaller: Schedule, larger: Schedule, budget: int, rho: float
) -> NDArray[np.float64]:
    """Return the quantile function that `vanishing_warp` samples.

    On the geodesic of the two schedules' curves lies `mu`, at the position w that Eq. 9 gives, from
    0 at the smaller budget to 1 at the larger one. It is warped by the exponent
    `1 + (rho - 1) 4 w (1 - w)`, which moves it no further than it lies from the nearer schedule's
    curve. So the curves of neighbouring budgets are never further apart than those of the two
    schedules: with d the distance of these, the curves of two positions v < w are within
    `min(v, 1 - v) d + (w - v) d + min(w, 1 - w) d`, which is d at most.
    """
    rho = as_positive("rho", rho, FieldError, "Use a number such as rho=1.3")
    w = position(smaller.budget, larger.budget, budget)
    first, second = lift(smaller), lift(larger)
    mu = (1 - w) * first + w * second
    progress = np.linspace(0.0, 1.0, len(mu))
    exponent = 1 + (rho - 1) * 4 * w * (1 - w)
    moved = np.interp(progress**exponent, progress, mu) - mu
    distance = np.abs(moved).mean()
    allowed = min(w, 1 - w) * np.abs(second - first).mean()
    curve: NDArray[np.float64] = mu + (moved if distance <= allowed else moved * allowed / distance)
    return curve


def position(smaller_budget: int, larger_budget: int, budget: int) -> float:
    """Return where on the geodesic a budget lies, from 0 at the smaller to 1 at the larger one.

    This is the larger one's weight by Eq. 9, which is small but not 0 at the smaller budget and not
    quite 1 at the larger one, stretched from 0 to 1.
    """
    lowest, here, highest = (
        geodesic_weights(smaller_budget, larger_budget, each)[1]
        for each in (smaller_budget, budget, larger_budget)
    )
    return (here - lowest) / (highest - lowest)


def _inheriting(steps: tuple[int, ...], origin: Schedule) -> Schedule:
    """Return the schedule of these steps with another one's look-backs, by segments' midpoints."""
    midpoints = [(start + end) / 2 for start, end in pairwise(steps)]
    look_backs = inherited_look_backs(steps, origin, midpoints)
    return Schedule(steps, origin.num_inference_steps, look_backs)
