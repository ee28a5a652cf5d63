"""Scores of schedules on a set of prompt-seed pairs, each schedule run once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.evaluation.pairs import Pair, generate
from otcache_plugin.executors.velocity import VelocityExecutor
from otcache_plugin.plan import SchedulePlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from numpy.typing import NDArray
    from otcache_policies import Schedule

    from otcache_plugin.evaluation.metrics import Metric


class Evaluator:
    """Runs schedules on a pipeline and compares each picture with the full run's.

    Args:
        pipe: a pipeline without any cache enabled.
        pairs: what to generate.
        call_arguments: further arguments of every pipeline call.
        batch_size: pairs per call.
        reference: the full runs' ``(N, 3, H, W)`` pictures, generated when not at hand.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        pairs: Sequence[Pair],
        call_arguments: Mapping[str, Any],
        batch_size: int = 64,
        reference: torch.Tensor | None = None,
    ) -> None:
        self.pairs = tuple(pairs)
        self._pipe = pipe
        self._call_arguments = dict(call_arguments)
        self._batch_size = batch_size
        self._executor = VelocityExecutor()
        self._values: dict[tuple[Schedule, str], NDArray[np.float64]] = {}
        self.reference = self._generate() if reference is None else reference
        self.evaluations = 0

    def _generate(self) -> torch.Tensor:
        return generate(self._pipe, self.pairs, self._call_arguments, self._batch_size)

    def pictures(self, schedule: Schedule) -> torch.Tensor:
        """The pairs' pictures with this schedule, ``(N, 3, H, W)`` in [0, 1]."""
        activation = self._executor.apply(self._pipe, SchedulePlan(schedule), {})
        try:
            return self._generate()
        finally:
            activation.remove()

    def values(self, schedule: Schedule, *metrics: Metric) -> list[NDArray[np.float64]]:
        """``(N,)`` values per metric; an identical schedule is not run again."""
        if any((schedule, metric.name) not in self._values for metric in metrics):
            pictures = self.pictures(schedule)
            self.evaluations += 1
            for metric in metrics:
                compared = metric.compare(pictures, self.reference)
                self._values[schedule, metric.name] = compared.numpy()
        return [self._values[schedule, metric.name] for metric in metrics]

    def loss(self, schedule: Schedule, metric: Metric) -> float:
        """Mean loss over the pairs, smaller is better."""
        (values,) = self.values(schedule, metric)
        return metric.loss(float(values.mean()))
