"""What drawn schedules lose: by the quadratic form of the recording, or in real runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from otcache_policies.displacement import Candidates
from otcache_policies.recache import computing

from otcache_plugin.calibration.errors import NotFiniteError
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from otcache_policies import Schedule
    from otcache_policies.quadratic_form import QuadraticForm

    from otcache_plugin.calibration.learning.reinforce import Drawn
    from otcache_plugin.plugins.calibrating import CalibrationContext


@dataclass(frozen=True, eq=False)
class FormLosses:
    """The mean logarithm of the pairs' errors by a quadratic form: no run of the model.

    Attributes:
        form: of the recording.
        look_backs: `(T, T)` of every segment.
    """

    form: QuadraticForm
    look_backs: NDArray[np.uint8]

    def __call__(self, drawn: Sequence[Drawn]) -> list[NDArray[np.float64]]:
        """Return what each draw's schedules lose."""
        return [finite(self.form.pooled(Candidates.of(self._schedules(each)))) for each in drawn]

    def _schedules(self, drawn: Drawn) -> list[Schedule]:
        return [computing(members, self.look_backs) for members in drawn.members]


@dataclass(frozen=True)
class WeightedMetrics:
    """The calibration's metric as a loss, and others that are rewarded beside it.

    Attributes:
        weights: by name of the metric, that of the calibration's own being 1.
    """

    weights: Mapping[str, float]

    def losses(self, values: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Return what each pair loses, from what every metric gives for it."""
        host = plugin_host()
        losses = []
        for name, weight in self.weights.items():
            sign = -1.0 if host.metric(name).higher_is_better else 1.0
            losses.append(sign * weight * values[name].astype(np.float64))
        total: NDArray[np.float64] = np.sum(losses, axis=0)
        return total


class RunLosses:
    """The mean loss of real runs, each budget's schedules on the same few pairs.

    Which pairs these are goes round and round through all of them.

    Args:
        context: runs them.
        look_backs: `(T, T)` of every segment.
        metrics: that are measured.
        pairs: that each schedule runs on.
        rng: of the order of the pairs.
    """

    def __init__(
        self,
        context: CalibrationContext,
        look_backs: NDArray[np.uint8],
        metrics: WeightedMetrics,
        pairs: int,
        rng: np.random.Generator,
    ) -> None:
        self._context = context
        self._look_backs = look_backs
        self._metrics = metrics
        stop = context.batches[-1].stop
        self._blocks = [range(first, min(first + pairs, stop)) for first in range(0, stop, pairs)]
        self._rng = rng
        self._left: list[range] = []

    def __call__(self, drawn: Sequence[Drawn]) -> list[NDArray[np.float64]]:
        """Run each draw's schedules, and return what they lose."""
        return [self._losses(each) for each in drawn]

    def _losses(self, drawn: Drawn) -> NDArray[np.float64]:
        if not self._left:
            order = self._rng.permutation(len(self._blocks)).tolist()
            self._left = [self._blocks[number] for number in order]
        schedules = [computing(members, self._look_backs) for members in drawn.members]
        names = list(self._metrics.weights)
        values = self._context.values(schedules, names, self._left.pop())
        return finite(np.array([self._metrics.losses(each).mean() for each in values]))


def finite(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return losses with the worst of them in the place of those that are not finite.

    Raises:
        NotFiniteError: none is finite.
    """
    known = np.isfinite(losses)
    if not known.any():
        raise NotFiniteError(
            "metric",
            losses.tolist(),
            f"none of {len(losses)} schedules that were drawn beside each other has a finite loss",
            "Look at what the metric gives for such outputs, or use another one",
        )
    # A form's 0 is no error at all: its logarithm is the best there is.
    best = np.where(np.isneginf(losses), losses[known].min(), losses)
    return np.where(np.isfinite(best), best, losses[known].max())
