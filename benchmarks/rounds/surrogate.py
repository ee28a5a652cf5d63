"""What real runs say of schedules that have not run: a Gaussian process beside the quadratic form.

The form with its gains takes a model as linear. Where it errs, it errs by alike amounts for
schedules whose segments lead to alike places. So the logarithm of a real error, less the form's, is
taken as a Gaussian process over a schedule's *profile*: how large the increments of its segments
are along the run, and where all of them together lead along the velocities' principal directions.
Runs of all budgets count together, so that a few of each say much. None of the papers has this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from otcache_policies import QuadraticForm, RealRun, Schedule
from otcache_policies.displacement import Candidates, increments

__all__ = ["Surrogate", "fit_surrogate"]

Floats = NDArray[np.float64]

KNOTS = 9
"""Places along a run at which the size of increments is read."""

DIRECTIONS = 5
"""Principal directions of the velocities along which the end of a run is read."""

SMALLEST_INCREMENT = 1e-3
"""Share of the largest below which increments are alike: those of segments without a cached step
are none at all."""

LENGTHS = (2.0, 4.0, 8.0)
"""Distances within which profiles are alike, in standard deviations of each of their numbers: the
likeliest is taken. A shorter one would explain the runs and say nothing of others."""

AMPLITUDES = (0.5, 1.0, 2.0)
"""Standard deviations of the process, in that of what the form is off: likewise."""

LEAST_NOISE = 1e-6
"""Variance of chance, as a share of that of what the form is off, which is taken at least."""

LEAST_SPREAD = 0.1
"""Standard deviation of a number of the profile below which it is left as it is: what hardly
differs among the schedules that ran would put all others beyond everything."""

SWEEPS = 30
"""Of telling what is off by schedules from what is off by pairs: each leaves about two thirds."""


@dataclass(frozen=True, eq=False)
class Profiles:
    """What makes the profiles of schedules.

    Attributes:
        gram: Mean of the pairs' Gram matrices, each pair counting the same: (T, T).
        directions: What a unit of each step's velocity is along each principal direction:
            (T, DIRECTIONS).
        smallest: Square of an increment that is as good as none.
        spread: Usual distance along each direction at the end of runs.
        centre: Mean of the profiles of the schedules that ran.
        scale: Standard deviation of each of their numbers.
    """

    gram: Floats
    directions: Floats
    smallest: float
    spread: Floats
    centre: Floats
    scale: Floats

    @classmethod
    def of(cls, form: QuadraticForm, ran: Sequence[Candidates]) -> Profiles:
        """Return what makes profiles that are standardised over schedules that ran."""
        sizes = _or_one(np.trace(form.grams, axis1=1, axis2=2))
        gram = np.tensordot(1 / sizes, form.grams, axes=1) / len(sizes)
        values, vectors = np.linalg.eigh(gram)
        directions = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1][:, :DIRECTIONS]
        added = [added_by(form, each) for each in ran]
        largest = max(float(_squares(each, gram).max()) for each in added)
        ends = np.concatenate([each.sum(axis=1) @ directions for each in added])
        spread = np.median(np.abs(ends), axis=0)
        spread = _or_one(np.maximum(spread, SMALLEST_INCREMENT * spread.max()))
        smallest = SMALLEST_INCREMENT**2 * largest
        plain = cls(gram, directions, smallest, spread, np.zeros(()), np.ones(()))
        found = np.concatenate([plain.profiles(*both) for both in zip(ran, added, strict=True)])
        scale = _or_one(found.std(axis=0), LEAST_SPREAD)
        return replace(plain, centre=found.mean(axis=0), scale=scale)

    def profiles(self, candidates: Candidates, added: Floats) -> Floats:
        """Return the profiles of schedules: (n, KNOTS + DIRECTIONS).

        Args:
            candidates: The schedules.
            added: What their segments add, with gains: (n, s, T).
        """
        knots = np.linspace(0, candidates.num_inference_steps - 1, KNOTS)
        logarithms = np.log(_squares(added, self.gram) + self.smallest) / 2
        ends = candidates.steps[:, 1:]
        along = [np.interp(knots, *each) for each in zip(ends, logarithms, strict=True)]
        places = np.arcsinh(added.sum(axis=1) @ self.directions / self.spread)
        standardised: Floats = (np.hstack([along, places]) - self.centre) / self.scale
        return standardised


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Predicts real errors, but for what they all have in common.

    Attributes:
        form: The quadratic form, with one gain per step.
        profiles: Makes the profiles.
        known: Profiles of the schedules that ran: (m, p).
        weights: How much each of them adds to what is alike: (m,).
        constant: What the form is off in the mean.
        length: Distance within which profiles are alike.
    """

    form: QuadraticForm
    profiles: Profiles
    known: Floats
    weights: Floats
    constant: float
    length: float

    def predicted(self, candidates: Candidates) -> Floats:
        """Return the logarithm of each candidate's error, in the mean over pairs: (n,).

        That is over all matrices of the form, pictures' and latents' where it has both, and without
        what pairs are off by whatever the schedule.
        """
        added = added_by(self.form, candidates)
        profiles = self.profiles.profiles(candidates, added)
        off = self.constant + _alike(profiles, self.known, self.length) @ self.weights
        found: Floats = self.form.pooled(candidates) + off
        return found


def fit_surrogate(form: QuadraticForm, runs: Sequence[RealRun]) -> Surrogate | None:
    """Return what real runs say of schedules that have not run.

    Every run is compared to the form on its own pairs. By how much a pair is off belongs to the
    pair and by how much a schedule is to the schedule, whichever pairs it ran on.

    Args:
        form: Quadratic form of the pairs, with one gain per step.
        runs: The real runs. A pair whose figures are not finite, or that ended where the full run
            does, is left out.

    Returns:
        The surrogate; None where fewer than two schedules are left.
    """
    off = _off(form, runs)
    if len(off) < 2:
        return None
    means, chance = _of_schedules(np.array(list(off.values())))
    ran = [Candidates.of([schedule]) for schedule in off]
    profiles = Profiles.of(form, ran)
    known = np.concatenate([profiles.profiles(each, added_by(form, each)) for each in ran])
    constant = float(means.mean())
    length, weights = _likeliest(known, means - constant, chance)
    return Surrogate(form, profiles, known, weights, constant, length)


def _off(form: QuadraticForm, runs: Sequence[RealRun]) -> dict[Schedule, Floats]:
    """Return by what logarithm each schedule's runs are off, NaN at pairs that they leave out."""
    found: dict[Schedule, Floats] = {}
    for run in runs:
        expected = form.values(Candidates.of([run.schedule]))[0, run.pairs]
        usable = np.isfinite(run.squares) & (run.squares > 0) & (expected > 0)
        if usable.any():
            own = found.setdefault(run.schedule, np.full(len(form.grams), np.nan))
            own[run.pairs[usable]] = np.log(run.squares[usable] / expected[usable])
    return found


def _of_schedules(table: Floats) -> tuple[Floats, Floats]:
    """Return by how much each schedule is off, and the variance of that by chance: (m,) each.

    Args:
        table: By how much each is off at each pair, NaN at those that it did not run on: (m, N).
    """
    table = table[:, np.isfinite(table).any(axis=0)]
    for _ in range(SWEEPS):
        # Of a pair the median: now and then a run tips into another picture.
        table = table - np.nanmedian(table - np.nanmean(table, axis=1, keepdims=True), axis=0)
    means, counts = np.nanmean(table, axis=1), np.isfinite(table).sum(axis=1)
    squares = float(np.nansum(np.square(table - means[:, None])))
    return means, squares / max(1, counts.sum() - len(counts)) / counts


def _likeliest(known: Floats, off: Floats, chance: Floats) -> tuple[float, Floats]:
    """Return the length and the weights of the process that is likeliest.

    Args:
        known: Profiles: (m, p).
        off: What the form is off, but for its mean: (m,).
        chance: Variance of each of these: (m,).
    """
    variance = float(off.var())
    if variance == 0.0:
        return LENGTHS[-1], np.zeros(len(off))
    noise = np.diag(np.maximum(chance, LEAST_NOISE * variance))
    found: list[tuple[float, float, Floats]] = []
    for length, amplitude in product(LENGTHS, AMPLITUDES):
        process = amplitude**2 * variance * _alike(known, known, length)
        inverse = np.linalg.solve(process + noise, off)
        determinant = np.linalg.slogdet(process + noise).logabsdet
        weights = amplitude**2 * variance * inverse
        found.append((-float(off @ inverse + determinant), length, weights))
    _, length, weights = max(found, key=lambda each: each[0])
    return length, weights


def added_by(form: QuadraticForm, candidates: Candidates) -> Floats:
    """Return what each segment adds at the end of a run, with the form's gains: (n, s, T)."""
    assert form.gains is not None, "gains are fitted to the same runs"
    own = increments(candidates, form.sigmas, form.response)
    found: Floats = own * form.gains[candidates.steps[:, 1:], None]
    return found


def _alike(some: Floats, others: Floats, length: float) -> Floats:
    """Return how alike profiles are, from 0 to 1: (n, m)."""
    squares = np.square(some).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
    distances = np.maximum(squares - 2 * some @ others.T, 0.0)
    found: Floats = np.exp(-distances / (2 * length**2))
    return found


def _squares(added: Floats, gram: Floats) -> Floats:
    """Return the square of what each segment adds, by one Gram matrix: (n, s)."""
    found: Floats = np.maximum(((added @ gram) * added).sum(axis=-1), 0.0)
    return found


def _or_one(scales: Floats, least: float = 0.0) -> Floats:
    """Return scales to divide by: 1 for those that are not above the least."""
    found: Floats = np.where(scales > least, scales, 1.0)
    return found
