"""Gains: how much of a displacement is left at the end of a real run.

The quadratic form takes the model's answers as recorded, wherever the cached steps have led. A
model does answer to where it is: it makes up for most of an early displacement. So the end of a
real run is explained as `sum_j g[j] * increment[j]` over the segments, j being the step at which
a segment ends and the model next looks, with one gain per step for all pairs. As the ends are
vectors, few runs suffice: least squares over all their elements needs their inner products alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from otcache_policies.displacement import Candidates, increments
from otcache_policies.gram import GramTable
from otcache_policies.schedule import Schedule

__all__ = ["Gains", "RealRun", "fit_gains"]

KNOTS = 9
"""Knots between which the gains are linear in the step."""

RIDGE = 1e-3
"""How firmly the gains are held to 1, as a share of what the runs say."""


@dataclass(frozen=True, eq=False)
class RealRun:
    """Where a schedule's real run ended on some pairs of a Gram table.

    Attributes:
        schedule: The schedule that was run.
        pairs: Indices of the pairs' matrices in the table, int of shape (n,).
        products: Inner products, per element, of the difference of its end to the full run's with
            what the full run's velocity of each step adds to the end: float64 of shape (n, T). An
            end is pictures or latents, whichever the matrices are of.
        squares: Mean square over elements of that difference, float64 of shape (n,).
    """

    schedule: Schedule
    pairs: NDArray[np.int_]
    products: NDArray[np.float64]
    squares: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gains:
    """Gains that were fitted, and how well they explain the runs.

    Attributes:
        values: Gain of an increment that ends at each step, float64 of shape (T,).
        unexplained: Share of the runs' squared displacements that the fit leaves, in the mean over
            runs and pairs: 0 for a model that is as linear as the form.
        unexplained_before: The same with all gains 1.
    """

    values: NDArray[np.float64]
    unexplained: float
    unexplained_before: float


def fit_gains(table: GramTable, runs: Sequence[RealRun]) -> Gains | None:
    """Return the gains that explain real runs best, every pair's run counting the same.

    Args:
        table: Gram matrices of the pairs.
        runs: The real runs. A pair whose figures are not finite, or that ended where the full run
            does, is left out.

    Returns:
        The gains; None where every pair of every run is left out.
    """
    hats = _hats(table.num_inference_steps)
    form = table.form(0.0)
    matrix, vector, count = np.zeros((KNOTS, KNOTS)), np.zeros(KNOTS), 0
    for run in runs:
        own = increments(Candidates.of([run.schedule]), form.sigmas, form.response)[0]
        parts = hats[:, list(run.schedule.computed_steps[1:])] @ own
        usable = np.isfinite(run.products).all(axis=1) & np.isfinite(run.squares)
        usable &= run.squares > 0
        weights = 1.0 / run.squares[usable]
        grams = form.grams[run.pairs[usable]]
        matrix += parts @ np.tensordot(weights, grams, axes=1) @ parts.T
        vector += parts @ (weights @ run.products[usable])
        count += int(usable.sum())
    if not count:
        return None
    ridge = RIDGE * np.trace(matrix) / KNOTS * np.eye(KNOTS)
    knots = np.linalg.solve(matrix + ridge, vector + ridge @ np.ones(KNOTS))

    def left(gains: NDArray[np.float64]) -> float:
        return float(1.0 + (gains @ matrix @ gains - 2.0 * gains @ vector) / count)

    return Gains(knots @ hats, left(knots), left(np.ones(KNOTS)))


def _hats(steps: int) -> NDArray[np.float64]:
    """Return the weight of each knot at each step: (knots, T)."""
    places = np.linspace(0, steps - 1, KNOTS)
    return np.array([np.interp(np.arange(steps), places, unit) for unit in np.eye(KNOTS)])
