"""How far a cached run ends from the full one, as a combination of the full run's velocities.

The average-velocity estimate of MeanCache (arXiv 2601.19961) is linear in the latents and
velocities of its log, with factors made of sigmas alone, and so is a step of a deterministic
solver. Take the recorded velocities `V[0] … V[T-1]` of a full run as what the model answers at a
computed step wherever the cached steps have led. Then every velocity of a cached run is a
combination of the recorded ones, and so is the displacement of its last latents, segment by
segment: with `d` the sum of a schedule's increments, `x_cached[T] - x_full[T] = sum_t d[t] V[t]`.

That is the first-order term that every edge table uses too, of a whole schedule: its windows reach
into the predictions of earlier segments, and its segments make up for each other or add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from otcache_policies.average_velocity import velocity_slope
from otcache_policies.schedule import Schedule

__all__ = ["Candidates", "euler_response", "increments"]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Schedules of one budget and number of steps as arrays, n of them with s segments.

    Attributes:
        steps: Computed steps, int of shape (n, s+1), each row from 0 to T-1.
        look_backs: Of each segment, int of shape (n, s), 1 or more.
        num_inference_steps: T.
    """

    steps: NDArray[np.int_]
    look_backs: NDArray[np.int_]
    num_inference_steps: int

    @classmethod
    def of(cls, schedules: Sequence[Schedule]) -> Candidates:
        """Return schedules of the same budget and number of steps as arrays."""
        return cls(
            np.array([each.computed_steps for each in schedules], dtype=int),
            np.array([each.look_backs for each in schedules], dtype=int),
            schedules[0].num_inference_steps,
        )

    def __len__(self) -> int:
        return len(self.steps)

    def schedule(self, index: int) -> Schedule:
        """Return one of them."""
        steps, look_backs = self.steps[index], self.look_backs[index]
        gaps = np.diff(steps)
        # On a segment without cached steps a look-back has no effect.
        return Schedule(
            steps.tolist(), self.num_inference_steps, np.where(gaps > 1, look_backs, 1).tolist()
        )


def increments(
    candidates: Candidates, sigmas: NDArray[np.float64], response: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what each segment adds to the displacement of the last latents.

    Args:
        candidates: n schedules of s segments and T steps.
        sigmas: Noise levels, float64 of shape (T+1,).
        response: What one unit of a step's velocity adds to the last latents, of shape (T,): for
            Euler steps the changes of sigma (`euler_response`).

    Returns:
        Float64 of shape (n, s, T): `[a, b, t]` is the coefficient of the full run's velocity of
        step t in what segment b of schedule a adds.
    """
    velocities = _velocities(candidates, sigmas)
    total = candidates.num_inference_steps
    wrong = (velocities - np.eye(total)[:, None]) * response[:, None, None]
    so_far = np.concatenate([np.zeros((1, *wrong.shape[1:])), np.cumsum(wrong, axis=0)])
    # Nothing is wrong at a computed step, so a segment's share lies between its two ends.
    found: NDArray[np.float64] = np.diff(
        so_far[candidates.steps, np.arange(len(candidates))[:, None]], axis=1
    )
    return found


def euler_response(sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what one unit of each step's velocity adds to the last latents in Euler steps."""
    return np.diff(sigmas)


def _velocities(candidates: Candidates, sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the velocity of each step in terms of the recorded ones, of shape (T, n, T)."""
    count, total = len(candidates), candidates.num_inference_steps
    widths, every = np.diff(sigmas), np.arange(count)
    computed, look_backs = _by_step(candidates)
    velocities = np.zeros((total, count, total))
    travelled = np.zeros((total + 1, count, total))
    for step in range(total):
        if step:
            # The log has one entry per step so far; the window begins at most at the first.
            first = np.maximum(step - look_backs[:, step], 0)
            window = (sigmas[step] - sigmas[first])[:, None]
            so_far = travelled[step] - travelled[first, every]
            slope = velocity_slope(velocities[first, every], so_far, window)
            velocities[step] = velocities[step - 1] - slope * widths[step]
        own = computed[:, step]
        velocities[step, own] = 0.0
        velocities[step, own, step] = 1.0
        travelled[step + 1] = travelled[step] + widths[step] * velocities[step]
    return velocities


def _by_step(candidates: Candidates) -> tuple[NDArray[np.bool_], NDArray[np.int_]]:
    """Return which steps are computed, and the look-back of every step's segment: (n, T) each."""
    count, total = len(candidates), candidates.num_inference_steps
    computed = np.zeros((count, total), dtype=bool)
    computed[np.arange(count)[:, None], candidates.steps] = True
    segment = np.cumsum(computed, axis=1) - 1
    # The last step begins no segment; what stands in for its look-back is never used.
    look_backs = np.pad(candidates.look_backs, ((0, 0), (0, 1)), constant_values=1)
    return computed, np.take_along_axis(look_backs, segment, axis=1)
