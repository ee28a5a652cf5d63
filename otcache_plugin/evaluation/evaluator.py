"""Scores of schedules on a set of prompt-seed pairs, each schedule run once."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from otcache_plugin.evaluation.outputs import SPACES, Outputs, generate_outputs
from otcache_plugin.executors.velocity import VelocityExecutor
from otcache_plugin.pipelines.attaching import attached
from otcache_plugin.runs.plan import SchedulePlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from diffusers import DiffusionPipeline
    from numpy.typing import NDArray
    from otcache_policies import Schedule

    from otcache_plugin.evaluation.metrics import Metric
    from otcache_plugin.evaluation.outputs import Space
    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.pipelines.calls import BeginsCalls
    from otcache_plugin.runs.plan import Plan

__all__ = ["Evaluator"]


class MakesRuns(Protocol):
    """An executor, as far as schedules are run by it."""

    def prepare(self, pipe: Any, plan: Plan, cache_dit_arguments: Mapping[str, Any]) -> BeginsCalls:
        """Return what begins the calls of a pipeline."""
        ...


class Evaluator:
    """Runs schedules on a pipeline and compares what each gives with the full run's outputs.

    Args:
        pipe: a pipeline without any cache enabled.
        pairs: what to generate.
        call_arguments: further arguments of every pipeline call; its steps are the full run's.
        batch_size: pairs per call.
        reference: the full runs' outputs, generated when not at hand.
        executor: that makes the schedules happen.
        cache_dit_arguments: that it is given besides.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        pairs: Sequence[Pair],
        call_arguments: Mapping[str, Any],
        batch_size: int = 64,
        reference: Outputs | None = None,
        executor: MakesRuns | None = None,
        cache_dit_arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.pairs = tuple(pairs)
        self._pipe = pipe
        self._call_arguments = dict(call_arguments)
        self._batch_size = batch_size
        self._executor: MakesRuns = executor or VelocityExecutor()
        self._cache_dit_arguments = cache_dit_arguments
        self._values: dict[tuple[Schedule, str], NDArray[np.float64]] = {}
        self._reference = reference
        self.evaluations = 0

    def reference(self, spaces: frozenset[Space] = SPACES) -> Outputs:
        """Return the full runs' outputs, generated when they are first asked for in a space."""
        known = self._reference
        if known is None or ("pictures" in spaces and known.pictures is None):
            known = self._generate(self._call_arguments, spaces)
            self._reference = known
        return known

    def outputs(self, schedule: Schedule, spaces: frozenset[Space] = SPACES) -> Outputs:
        """Return the pairs' outputs with this schedule, in as many steps as it is for.

        Fewer steps than the full run's are fewer true steps: `Schedule.full(10)` is what the
        pipeline gives when it is asked for 10 and nothing is cached.
        """
        steps = {"num_inference_steps": schedule.num_inference_steps}
        plan = SchedulePlan(schedule)
        activation = self._executor.prepare(self._pipe, plan, self._cache_dit_arguments)
        with attached(self._pipe, activation):
            return self._generate({**self._call_arguments, **steps}, spaces)

    def _generate(self, call_arguments: Mapping[str, Any], spaces: frozenset[Space]) -> Outputs:
        return generate_outputs(self._pipe, self.pairs, call_arguments, self._batch_size, spaces)

    def values(self, schedule: Schedule, *metrics: Metric) -> list[NDArray[np.float64]]:
        """Return `(N,)` values per metric; an identical schedule is not run again."""
        if any((schedule, metric.name) not in self._values for metric in metrics):
            spaces = frozenset(metric.space for metric in metrics)
            reference, outputs = self.reference(spaces), self.outputs(schedule, spaces)
            self.evaluations += 1
            for metric in metrics:
                self._values[schedule, metric.name] = metric.values(outputs, reference, self.pairs)
        return [self._values[schedule, metric.name] for metric in metrics]

    def loss(self, schedule: Schedule, metric: Metric) -> float:
        """Return the mean loss over the pairs, smaller is better."""
        (values,) = self.values(schedule, metric)
        mean = float(values.mean())
        return -mean if metric.higher_is_better else mean
