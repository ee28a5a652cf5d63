"""What each possible segment of a cached run does to the run's state.

A cached step knows a window of the last velocities and no more, and is linear in them. So the state
of a run at a computed step is its displacement so far and its last few velocities, and a segment is
a matrix that such a state is multiplied by: all of them together are a table that depends on the
noise levels alone. A schedule is then a product of a few matrices rather than a walk through every
step, and a part of a schedule changes without the rest being gone through again.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from otcache_policies.average_velocity import velocity_slope

__all__ = ["DISPLACEMENT", "segment_maps"]

DISPLACEMENT = 0
"""The row of a state that holds the displacement; the others hold the last velocities, the
latest last."""

Floats = NDArray[np.float64]


def segment_maps(sigmas: Floats, response: Floats, max_look_back: int) -> Floats:
    """Return the matrix of every segment.

    A state has K + 1 rows for a largest look-back K. What a segment adds besides does not depend on
    the state: the velocity that is computed at its end, in the last row, and in the first row the
    recorded velocities of its cached steps, times the response and with a minus sign.

    Args:
        sigmas: Noise levels, float64 of shape (T+1,).
        response: What one unit of a step's velocity adds to the last latents, of shape (T,).
        max_look_back: Largest look-back, K.

    Returns:
        Float64 of shape (T, K, T, K+1, K+1), read-only: `[i, k-1, g]` is the matrix of the segment
        that begins at step i, looks back k steps and has the gap g.
    """
    return _segment_maps(tuple(sigmas.tolist()), tuple(response.tolist()), max_look_back)


@lru_cache(maxsize=8)
def _segment_maps(
    sigmas: tuple[float, ...], response: tuple[float, ...], max_look_back: int
) -> Floats:
    total = len(response)
    velocities = _predicted(np.array(sigmas), max_look_back)
    maps = np.zeros((total, max_look_back, total, max_look_back + 1, max_look_back + 1))
    maps[..., DISPLACEMENT, DISPLACEMENT] = 1.0
    added = np.array([*response, *[0.0] * total])[_steps(total)]
    sums = np.cumsum(added[:, None, :, None] * velocities[:, :, max_look_back:], axis=2)
    maps[:, :, 2:, DISPLACEMENT, 1:] = sums[:, :, : total - 2]
    for gap in range(1, total):
        # All but the last velocity, which is computed at the segment's end.
        maps[:, :, gap, 1:-1, 1:] = velocities[:, :, gap : gap + max_look_back - 1]
    maps.flags.writeable = False
    return maps


def _steps(total: int) -> NDArray[np.int_]:
    """Return which steps follow on each: (T, T-1), beyond the last ones up to 2T-2."""
    return np.arange(total)[:, None] + np.arange(1, total)


def _predicted(sigmas: Floats, max_look_back: int) -> Floats:
    """Return the velocities around a computed step i in terms of the last ones up to it.

    Of shape (T, K, K+T-1, K): `[i, k-1, row]` is that of step i-K+1+row, where nothing is computed
    after step i and the look-back is k. The first K rows are the last velocities themselves.
    """
    total, size = len(sigmas) - 1, max_look_back
    start, look_back = np.arange(total)[:, None], np.arange(1, size + 1)
    velocities = np.zeros((total, size, size + total - 1, size))
    travelled = np.zeros((total, size, size + total, size))
    velocities[:, :, :size] = np.eye(size)
    widths = np.concatenate([np.zeros(size - 1), np.diff(sigmas), np.zeros(total)])
    for row in range(size + total - 1):
        # Of the steps i, those whose step in this row is one of the run.
        of = slice(0, total - max(row - size + 1, 0))
        begin, width = start[of], widths[start[of] + row, None]
        if row >= size:
            step = begin - size + 1 + row
            first = np.maximum(step - look_back, 0)
            at = (begin, look_back - 1, first - begin + size - 1)
            window = (sigmas[step] - sigmas[first])[..., None]
            slope = velocity_slope(velocities[at], travelled[of, :, row] - travelled[at], window)
            velocities[of, :, row] = velocities[of, :, row - 1] - slope * width
        travelled[of, :, row + 1] = travelled[of, :, row] + velocities[of, :, row] * width
    return velocities
