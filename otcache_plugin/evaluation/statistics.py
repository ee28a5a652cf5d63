"""Paired comparisons: the mean difference of two methods on the same pairs, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PairedDifference", "paired_difference"]


@dataclass(frozen=True)
class PairedDifference:
    """Mean of `a - b` over the same prompt-seed pairs.

    Attributes:
        mean: the mean difference.
        low: lower end of its 95 % confidence interval (Student's t).
        high: upper end.
        standard_error: of the mean.
        win_rate: share of the pairs with `a > b`, a tie counting half.
        pairs: sample size.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    win_rate: float
    pairs: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def paired_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> PairedDifference:
    """Compare two `(N,)` arrays of values on the same pairs, N at least 2."""
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    count = len(difference)
    mean = float(difference.mean())
    standard_error = float(difference.std(ddof=1) / np.sqrt(count))
    half_width = float(stats.t.ppf(0.975, count - 1)) * standard_error
    win_rate = float(np.mean(np.sign(difference) * 0.5 + 0.5))
    return PairedDifference(
        mean, mean - half_width, mean + half_width, standard_error, win_rate, count
    )
