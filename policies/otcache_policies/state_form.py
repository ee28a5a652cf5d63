"""A quadratic form of one Gram matrix, evaluated through the states of a run.

`otcache_policies.segments` makes every segment a matrix. With velocities in the few coordinates
that their Gram matrix has (its eigenvalues fall fast), a state is a small matrix too, and the value
is made of plain squares. What comes after a state is a quadratic function of it, so that a schedule
that changes in one place is valued without going through the rest again.

Look-backs are counted from 0 here, as the table of segments does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from otcache_policies.quadratic_form import QuadraticForm
from otcache_policies.schedule import Schedule
from otcache_policies.segments import DISPLACEMENT, segment_maps

__all__ = ["Rest", "StateForm"]

Floats = NDArray[np.float64]

Steps = NDArray[np.int_] | int
"""A step or a look-back of one segment, or those of several at once."""

NEGLIGIBLE = 1e-6
"""Eigenvalues up to this share of the largest are left out: they are too small to choose by."""

FIXED = [DISPLACEMENT, -1]
"""Rows of a state to which a segment adds something that does not depend on the state."""


@dataclass(frozen=True, eq=False)
class Rest:
    """What the rest of a run adds to the value, as a function of the state S that it begins in.

    That is `<S, square S> + 2 <linear, S> + constant`; leading axes stand for several runs at once.
    """

    square: Floats
    linear: Floats
    constant: Floats


@dataclass(frozen=True, eq=False)
class StateForm:
    """A quadratic form of one Gram matrix.

    Attributes:
        maps: What `segment_maps` returns, with the gains at the segments' ends.
        fixed: What every segment adds whatever the state, by its two ends, of shape (T, T, 2, r):
            to the displacement, and as the last velocity.
        damping: Share of the segments' own squares.
    """

    maps: Floats
    fixed: Floats
    damping: float

    @classmethod
    def of(cls, form: QuadraticForm, max_look_back: int) -> StateForm:
        """Return the form of a single pair in terms of states."""
        total = form.num_inference_steps
        maps = segment_maps(form.sigmas, form.response, max_look_back)
        velocities = _coordinates(form.grams[0])
        sums = np.cumsum(form.response[:, None] * velocities, axis=0)
        fixed = np.empty((total, total, 2, velocities.shape[1]))
        # Recorded velocities from after the beginning to before the end.
        fixed[:, 1:, 0] = sums[:, None] - sums[None, :-1]
        fixed[:, 0, 0] = 0.0
        fixed[:, :, 1] = velocities
        if form.gains is not None:
            fixed[:, :, 0] *= form.gains[:, None]
            begin, gap = np.ogrid[:total, :total]
            at_end = form.gains[np.minimum(begin + gap, total - 1)]
            maps = maps.copy()
            maps[..., DISPLACEMENT, 1:] *= at_end[:, None, :, None]
        return cls(maps, fixed, form.damping)

    @property
    def num_inference_steps(self) -> int:
        """Steps of the recorded runs, T."""
        return len(self.maps)

    @property
    def look_backs(self) -> NDArray[np.int_]:
        """Every look-back, from 0."""
        return np.arange(self.maps.shape[1])

    def start(self) -> Floats:
        """Return the state at step 0: not displaced, with the velocity that is computed there."""
        state = np.zeros((self.maps.shape[-1], self.fixed.shape[-1]))
        state[-1] = self.fixed[0, 0, 1]
        return state

    def end(self) -> Rest:
        """Return what is added after the last step: the undamped share of the whole square."""
        rows = self.maps.shape[-1]
        square = np.zeros((rows, rows))
        square[DISPLACEMENT, DISPLACEMENT] = 1 - self.damping
        return Rest(square, np.zeros((rows, self.fixed.shape[-1])), np.zeros(()))

    def after(self, states: Floats, begin: Steps, look_back: Steps, end: Steps) -> Floats:
        """Return the states at the ends of segments, from those at their beginnings."""
        found: Floats = self.maps[begin, look_back, end - begin] @ states
        found[..., FIXED, :] += self.fixed[begin, end]
        return found

    def own(self, before: Floats, after: Floats) -> Floats:
        """Return the damped share of the squares of what segments add, from their two states."""
        added = after[..., DISPLACEMENT, :] - before[..., DISPLACEMENT, :]
        squares: Floats = self.damping * np.einsum("...r,...r->...", added, added)
        return squares

    def before(self, rest: Rest, begin: Steps, look_back: Steps, end: Steps) -> Rest:
        """Return what segments and the rests after them add, in terms of the states before them."""
        matrix, fixed = self.maps[begin, look_back, end - begin], self.fixed[begin, end]
        transposed = matrix.swapaxes(-1, -2)
        # The rest's slope where nothing but what is fixed has been added.
        slope = rest.square[..., FIXED] @ fixed + rest.linear
        square, linear = transposed @ rest.square @ matrix, transposed @ slope
        constant = rest.constant + ((slope + rest.linear)[..., FIXED, :] * fixed).sum((-1, -2))
        if self.damping:
            made, given = matrix[..., DISPLACEMENT, 1:], fixed[..., 0, :]
            square[..., 1:, 1:] += self.damping * made[..., None] * made[..., None, :]
            linear[..., 1:, :] += self.damping * made[..., None] * given[..., None, :]
            constant = constant + self.damping * np.einsum("...r,...r->...", given, given)
        return Rest(square, linear, constant)

    def value(self, schedule: Schedule) -> float:
        """Return the value of a schedule, without what is negligible (`NEGLIGIBLE`)."""
        state, so_far = self.start(), np.zeros(())
        for segment in schedule.segments:
            following = self.after(state, segment.start, segment.look_back - 1, segment.end)
            so_far = so_far + self.own(state, following)
            state = following
        whole = state[DISPLACEMENT] @ state[DISPLACEMENT]
        return float(so_far + (1 - self.damping) * whole)

    def values(self, states: Floats, so_far: Floats, rest: Rest) -> Floats:
        """Return the values of every run that begins in one of A ways and ends in one of Z.

        Args:
            states: At each of P places, the states of the A ways there: (P, A, K+1, r).
            so_far: What has been added by then, of shape (P, A).
            rest: The Z ways on from there, likewise.

        Returns:
            Of shape (P, A, Z).
        """
        squares = states @ states.swapaxes(-1, -2)
        values = _products(squares, rest.square) + 2 * _products(states, rest.linear)
        found: Floats = values + so_far[:, :, None] + rest.constant[:, None, :]
        return found


def _products(some: Floats, others: Floats) -> Floats:
    """Return the inner products of matrices (P, A, …) with others (P, Z, …): (P, A, Z)."""
    flat = some.reshape(*some.shape[:2], -1), others.reshape(*others.shape[:2], -1)
    found: Floats = flat[0] @ flat[1].swapaxes(-1, -2)
    return found


def _coordinates(gram: Floats) -> Floats:
    """Return as few coordinates as vectors with these inner products need: of shape (T, r)."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > NEGLIGIBLE * values[-1]
    found: Floats = vectors[:, kept] * np.sqrt(values[kept])
    return found
