"""One loss of many pairs: what schedules are compared by while they are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import trim_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRIMMED = 0.05
"""Share of the pairs left out at either end."""


def pooled(losses: NDArray[np.float64]) -> float:
    """Return the mean over pairs, the last axis, without the best and the worst of them.

    Now and then a schedule tips a sampler into drawing another scene, and the loss of that one pair
    outweighs all that was gained on the others. Which schedule that happens to on a hundred
    calibration pairs says little about other pairs, but decides a plain mean.
    """
    return float(np.mean(trim_mean(losses, TRIMMED, axis=-1)))
