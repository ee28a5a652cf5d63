"""Whether one schedule is better than a simpler one, on the same fresh pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRIM = 8
"""At either end one pair in so many is left out of a mean difference."""


@dataclass(frozen=True)
class Verdict:
    """A challenger's lead over a simpler schedule.

    Attributes:
        gain: by how much its loss is lower, in the mean over pairs but for the few at either end:
            now and then a run tips into another picture, which says little about other pairs and
            outweighs all that was gained on them.
        standard_error: of that mean (Yuen's, by the winsorised variance).
        pairs: that both were run on.
    """

    gain: float
    standard_error: float
    pairs: int

    @property
    def ahead(self) -> bool:
        """Whether the challenger is better beyond its standard error."""
        return self.gain > self.standard_error


def verdict_of(simpler: NDArray[np.float64], challenger: NDArray[np.float64]) -> Verdict:
    """Compare losses on the same pairs, at least 4, of which one side has to be finite.

    A side with a loss that is not finite is the worse one, whatever it does on other pairs.
    """
    count = len(simpler)
    if not np.isfinite(challenger).all():
        return Verdict(-np.inf, 0.0, count)
    if not np.isfinite(simpler).all():
        return Verdict(np.inf, 0.0, count)
    differences = np.sort(simpler - challenger)
    left_out = max(1, count // TRIM)
    kept = differences[left_out:-left_out]
    winsorised = np.clip(differences, kept[0], kept[-1])
    squares = float(np.square(winsorised - winsorised.mean()).sum())
    error = np.sqrt(squares / (len(kept) * max(len(kept) - 1, 1)))
    return Verdict(float(kept.mean()), float(error), count)
