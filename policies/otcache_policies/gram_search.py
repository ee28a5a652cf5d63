"""Minimising a quadratic form over the schedules of one budget.

From several starts at once, every schedule that is one move away is tried and the best taken, until
no move improves it: a computed step goes anywhere else, or a segment looks back otherwise. All of
them are evaluated together, in a few milliseconds, without the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from otcache_policies.displacement import Candidates, increments
from otcache_policies.schedule import Schedule
from otcache_policies.uniform import UniformPolicy

__all__ = ["QuadraticForm", "optimise"]

RANDOM_STARTS = 12
"""Besides the even one."""

FINALISTS = 3
"""Starts that are followed to the end with every pair's own matrix."""

SHIFTS = (-2, -1, 1, 2)
"""Steps by which a computed step goes a little elsewhere."""


@dataclass(frozen=True, eq=False)
class QuadraticForm:
    """What is minimised: the pairs' squared errors, damped.

    Attributes:
        grams: Float64 of shape (N, T, T), one Gram matrix per pair.
        sigmas: Float64 of shape (T+1,).
        response: Of the last latents to each step's velocity, float64 of shape (T,).
        damping: Share of the segments' own squares, from 0 to 1.
        gains: What is left at the end of an increment that ends at a step: float64 of shape (T,),
            ones when left out.
    """

    grams: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    response: NDArray[np.float64]
    damping: float = 0.0
    gains: NDArray[np.float64] | None = None

    @property
    def num_inference_steps(self) -> int:
        """T."""
        return len(self.sigmas) - 1

    def weighted(self, weights: NDArray[np.float64]) -> QuadraticForm:
        """Return the form of one pair that is the weighted mean of these."""
        mean = np.tensordot(weights / weights.sum(), self.grams, axes=1)
        return replace(self, grams=mean[None])

    def values(self, candidates: Candidates) -> NDArray[np.float64]:
        """Return the damped squared error of each candidate for each pair: (n, N)."""
        own = increments(candidates, self.sigmas, self.response)
        if self.gains is not None:
            own = own * self.gains[candidates.steps[:, 1:], None]
        whole = own.sum(axis=1)
        values = (1 - self.damping) * _squares(whole, self.grams)
        if self.damping:
            segments = _squares(own.reshape(-1, own.shape[2]), self.grams)
            values += self.damping * segments.reshape(*own.shape[:2], -1).sum(axis=1)
        return np.maximum(values, 0.0)

    def pooled(self, candidates: Candidates) -> NDArray[np.float64]:
        """Return the mean over pairs of the logarithm of each candidate's value: (n,)."""
        with np.errstate(divide="ignore"):
            means: NDArray[np.float64] = np.log(self.values(candidates)).mean(axis=1)
        return means


def optimise(
    form: QuadraticForm,
    budget: int,
    max_look_back: int,
    seed: int = 0,
    starts: Sequence[Schedule] = (),
) -> Schedule:
    """Return the schedule of a budget with the smallest mean logarithm of the pairs' values.

    Pairs count by the decibels that they gain, not by how large their errors are.

    Args:
        form: What is minimised.
        budget: Computed steps, from 2 to T.
        max_look_back: Largest look-back of a segment.
        seed: Of the random starts.
        starts: Further schedules of the budget to begin at.
    """
    total = form.num_inference_steps
    # Starts look back by 1 … 3 where they may.
    usual = min(3, max_look_back)
    starts = [*starts, _even(total, budget, usual), *_random(total, budget, usual, seed)]
    best = starts[int(np.argmin(form.pooled(Candidates.of(starts))))]
    values = form.values(Candidates.of([best]))[0]
    if (values > 0).all():
        # One matrix for all pairs: each is weighed by the inverse of its value so far, which has
        # the slope of the mean logarithm there.
        pooled = form.weighted(1.0 / values)
        starts = [_descend(pooled, start, max_look_back) for start in starts]
    distinct = list(dict.fromkeys(starts))
    order = np.argsort(form.pooled(Candidates.of(distinct)), kind="stable")
    finalists = [
        _descend(form, distinct[index], max_look_back) for index in order[:FINALISTS].tolist()
    ]
    return finalists[int(np.argmin(form.pooled(Candidates.of(finalists))))]


def _even(total: int, budget: int, largest: int) -> Schedule:
    return UniformPolicy(total, look_back=min(2, largest)).schedule(budget)


def _random(total: int, budget: int, largest: int, seed: int) -> list[Schedule]:
    """Return schedules along random powers of an even spacing, with random look-backs."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RANDOM_STARTS if budget > 2 else 0):
        inner = rng.choice(np.arange(1, total - 1), budget - 2, replace=False)
        steps = [0, *sorted(inner.tolist()), total - 1]
        found.append(Schedule(steps, total, rng.integers(1, largest + 1, budget - 1).tolist()))
    return found


def _descend(form: QuadraticForm, start: Schedule, max_look_back: int) -> Schedule:
    """Return where steepest descent ends: no move, near or far, improves the pooled value."""
    best, value = start, float(form.pooled(Candidates.of([start]))[0])
    neighbourhoods = (_near, _far)
    number = 0
    while number < len(neighbourhoods):
        moves = neighbourhoods[number](best, max_look_back)
        values = form.pooled(moves) if len(moves) else np.array([np.inf])
        index = int(np.argmin(values))
        # Rounding alone is no improvement: without a bound two schedules could take turns.
        if values[index] < value - 1e-9 * abs(value):
            best, value, number = moves.schedule(index), float(values[index]), 0
        else:
            number += 1
    return best


def _near(schedule: Schedule, max_look_back: int) -> Candidates:
    """Return the schedules with one step a little earlier or later, or one other look-back."""
    steps, look_backs = np.array(schedule.computed_steps), np.array(schedule.look_backs)
    segments = len(look_backs)
    inner = np.repeat(np.arange(1, segments), len(SHIFTS))
    moved = np.tile(steps, (len(inner), 1))
    moved[np.arange(len(inner)), inner] += np.tile(SHIFTS, segments - 1)
    moved = moved[(np.diff(moved, axis=1) > 0).all(axis=1)]
    cached = np.repeat(np.flatnonzero(np.diff(steps) > 1), max_look_back)
    windows = np.tile(look_backs, (len(cached), 1))
    windows[np.arange(len(cached)), cached] = np.tile(
        np.arange(1, max_look_back + 1), len(cached) // max_look_back
    )
    return Candidates(
        np.concatenate([moved, np.tile(steps, (len(windows), 1))]),
        np.concatenate([np.tile(look_backs, (len(moved), 1)), windows]),
        schedule.num_inference_steps,
    )


def _far(schedule: Schedule, max_look_back: int) -> Candidates:
    """Return the schedules with one step anywhere else; its segment looks back as it did."""
    steps, look_backs = np.array(schedule.computed_steps), np.array(schedule.look_backs)
    free = np.setdiff1d(np.arange(schedule.num_inference_steps), steps)
    rows, windows = [], []
    for index in range(1, len(steps) - 1):
        rest, others = np.delete(steps, index), np.delete(look_backs, index)
        for place, at in zip(free, np.searchsorted(rest, free), strict=True):
            rows.append(np.insert(rest, at, place))
            windows.append(np.insert(others, at, look_backs[index]))
    return Candidates(
        np.array(rows, dtype=int).reshape(-1, len(steps)),
        np.array(windows, dtype=int).reshape(-1, len(look_backs)),
        schedule.num_inference_steps,
    )


def _squares(vectors: NDArray[np.float64], grams: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `v' G v` of every vector with every matrix: (n, N)."""
    products = np.einsum("nt,ptu->npu", vectors, grams, optimize=True)
    squares: NDArray[np.float64] = np.einsum("npu,nu->np", products, vectors)
    return squares
