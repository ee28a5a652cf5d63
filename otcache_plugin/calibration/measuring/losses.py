"""Losses: one number for many pairs, and which of several candidates has the lowest.

A loss that is not finite is the worst there is. A schedule with such a loss at any pair has no mean
that could be compared: whatever it does on the other pairs, it is the worst of all candidates. The
pair is neither averaged, which would make the mean no number, nor trimmed away as an outlier, which
would let a schedule win that cannot be measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import trim_mean

from otcache_plugin.calibration.errors import NotFiniteError
from otcache_plugin.calibration.settings import TRIMMED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from otcache_policies import Schedule

    from otcache_plugin.calibration.measuring.units import Measured
    from otcache_plugin.evaluation.metrics import Metric

WORST = math.inf


def losses_of(measured: Measured, metric: Metric) -> NDArray[np.float64]:
    """Return what each pair of a measured run loses by a metric: smaller is better."""
    values: NDArray[np.float64] = measured.arrays[metric.name].astype(np.float64)
    return -values if metric.higher_is_better else values


def pooled(losses: NDArray[np.float64]) -> float:
    """Return the mean over pairs, the last axis, without the best and the worst of them.

    Now and then a schedule tips a sampler into drawing another scene, and the loss of that one pair
    outweighs all that was gained on the others. Which schedule that happens to on a hundred
    calibration pairs says little about other pairs, but decides a plain mean.

    Returns:
        The mean; infinite, the worst, where a pair's loss is not finite.
    """
    if not np.isfinite(losses).all():
        return WORST
    return float(np.mean(trim_mean(losses, TRIMMED, axis=-1)))


def differences(losses: NDArray[np.float64], baseline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return losses less another schedule's on the same pairs.

    Where the other's is not finite, 0 stands in for it: it is the same for all candidates, so any
    number leaves them in their order.
    """
    return losses - np.where(np.isfinite(baseline), baseline, 0.0)


@dataclass(frozen=True, eq=False)
class ScheduleLoss:
    """What a schedule loses.

    Attributes:
        schedule: that was run.
        metric: by which its outputs are compared to the full run's.
        losses: `(N,)`, one per pair, smaller is better.
    """

    schedule: Schedule
    metric: str
    losses: NDArray[np.float64]

    @property
    def pooled(self) -> float:
        """Over all pairs."""
        return pooled(self.losses)

    @property
    def failed_pairs(self) -> list[int]:
        """The pairs at which it is not finite."""
        found: list[int] = np.flatnonzero(~np.isfinite(self.losses)).tolist()
        return found


def lowest(candidates: Sequence[Sequence[ScheduleLoss]]) -> int:
    """Return the number of the candidate with the lowest mean loss, of several the first.

    Args:
        candidates: what the schedules of each lose, as many of each.

    Raises:
        NotFiniteError: no candidate has a finite loss at all pairs with all its schedules.
    """
    means = np.array([[each.pooled for each in losses] for losses in candidates]).mean(axis=1)
    if not np.isfinite(means).any():
        raise not_finite([each for losses in candidates for each in losses])
    return int(means.argmin())


def not_finite(found: Sequence[ScheduleLoss]) -> NotFiniteError:
    """Return the error of schedules none of which can be chosen; it tells the first failed one."""
    example = next(each for each in found if each.failed_pairs)
    return NotFiniteError(
        "metric",
        example.metric,
        f"the {len(found)} schedules that were run leave no choice whose losses are finite; that "
        f"of the steps {example.schedule.computed_steps} with look-backs "
        f"{example.schedule.look_backs} is not finite at the pairs "
        f"{', '.join(map(str, example.failed_pairs))} of 0 … {len(example.losses) - 1}",
        "Look at what the metric gives for such outputs, or use another one",
    )
