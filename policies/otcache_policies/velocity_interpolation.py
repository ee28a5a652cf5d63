"""Velocities at noise levels that were not recorded, as combinations of those that were."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from otcache_policies.sigmas import SAME_SIGMAS

__all__ = ["covers", "interpolation"]


def covers(recorded: NDArray[np.float64], sigmas: NDArray[np.float64]) -> bool:
    """Return whether the velocities of a run follow from recorded ones.

    The run may begin above the first recorded level by as much as that lies above the second, and
    has to take its last step no lower than the recorded run ended: nothing is known of what happens
    further out.

    Args:
        recorded: Noise levels of the recorded run, shape (T+1,), strictly decreasing.
        sigmas: Those of the run, shape (T'+1,), likewise.
    """
    highest = 2 * recorded[0] - recorded[1]
    # Rounding alone goes no further.
    return bool(sigmas[0] <= highest + SAME_SIGMAS and sigmas[-2] >= recorded[-1] - SAME_SIGMAS)


def interpolation(
    recorded: NDArray[np.float64], sigmas: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of the recorded velocities in those of a run, of shape (T, T').

    Between two recorded levels a velocity lies on the line through theirs, beyond the first or the
    last on the line through the two nearest. Curved interpolants, and interpolating in something
    else than sigma, came no closer to what runs of 28, 40 and 100 steps record.

    Args:
        recorded: Noise levels of the recorded run, shape (T+1,), strictly decreasing.
        sigmas: Those of the run, shape (T'+1,), likewise.
    """
    levels, known = sigmas[:-1], recorded[:-1]
    weights = np.zeros((len(known), len(levels)))
    if len(known) == 1:
        weights[0] = 1.0
        return weights
    # The recorded step that a level comes after; numpy searches rising values only.
    before = np.searchsorted(-known, -levels, side="right") - 1
    before = before.clip(0, len(known) - 2)
    share = (levels - known[before]) / (known[before + 1] - known[before])
    columns = np.arange(len(levels))
    weights[before, columns] = 1 - share
    weights[before + 1, columns] = share
    return weights
