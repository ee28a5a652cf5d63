"""Runs of schedules on what a calibration is for: an executor, with a calibrator of cache-dit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_policies import Schedule

from otcache_plugin.calibration.measuring.counting import calls_per_step
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.executors.block_arguments import block_arguments
from otcache_plugin.executors.cached_twin import unannounced
from otcache_plugin.executors.velocity import VelocityExecutor
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.runs.mechanism import BLOCKS
from otcache_plugin.runs.plan import SchedulePlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.calibration.measuring.kept_runs import KeptRun
    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.evaluation.outputs import Outputs
    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.models.setups import ModelSetup


class ScheduleRuns:
    """Makes runs of schedules.

    Args:
        setup: the model, without any cache enabled.
        settings: of the calibration.

    Raises:
        PipelineError, ArgumentError: the executor does not serve the pipeline, or no schedules.
    """

    def __init__(self, setup: ModelSetup, settings: MeasuringSettings) -> None:
        mechanism = settings.mechanism
        self._setup = setup
        self._replays = mechanism.replays
        self._executor = plugin_host().executor(mechanism.executor)
        calls = calls_per_step(setup) if mechanism.executor == BLOCKS else None
        self._arguments = block_arguments(mechanism, calls)
        full = SchedulePlan(Schedule.full(settings.num_inference_steps))
        with unannounced():  # What cannot be served is refused before anything else runs.
            self._executor.prepare(setup.pipe, full, self._arguments)

    def of(self, pairs: Sequence[Pair], reference: Outputs, run: KeptRun) -> Evaluator:
        """Return what runs schedules on some pairs, all in one call.

        Args:
            pairs: a batch.
            reference: outputs of their full run.
            run: what need not be computed, and what is to be kept, where the executor can.
        """
        return Evaluator(
            self._setup.pipe,
            pairs,
            self._setup.call_arguments,
            len(pairs),
            reference,
            VelocityExecutor(run.replay, run.log) if self._replays else self._executor,
            self._arguments,
        )
