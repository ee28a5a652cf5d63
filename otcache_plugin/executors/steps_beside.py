"""The steps that another scheduler takes in the same run: of the sound beside a video.

LTX-2, Kandinsky 6 and Cosmos 3 denoise two things with one transformer, the second by a copy of
their scheduler or by one of its own. What the transformer would give for it on a cached step is not
there either, so its velocity is estimated as that of the first is, from its own steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.errors import ExecutionError
from otcache_plugin.executors.run_begin import begin_by_timestep, known_begin
from otcache_plugin.executors.schedulers import require_look_back, supported_substitute
from otcache_plugin.executors.step_log import StepLog

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from otcache_plugin.executors.velocity_run import VelocityRun


class StepsBeside:
    """The steps of one scheduler that is not the pipeline's main one.

    Args:
        run: that they belong to.
        scheduler: which takes them, and has taken none yet.
        timestep: of the first one.

    Raises:
        PipelineError: nothing can stand in for its velocity as far back as the run looks.
    """

    def __init__(self, run: VelocityRun, scheduler: Any, timestep: float | torch.Tensor) -> None:
        look_back = run.resolution.largest_look_back
        substitute = supported_substitute(scheduler)
        require_look_back(scheduler, look_back, "the schedule")
        begin = known_begin(scheduler)
        if begin is None:
            begin = begin_by_timestep(scheduler, timestep)
        self._run = run
        self._log = StepLog(scheduler.sigmas[begin:].float(), look_back, substitute)

    def step(
        self,
        original: Callable[..., Any],
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Take a step with the velocity of the transformer, or with its estimate.

        Raises:
            ExecutionError: the run is not at that step.
        """
        run, log = self._run, self._log
        if log.step not in (run.step - 1, run.step):
            raise ExecutionError(
                "a scheduler beside pipe.scheduler does not take its steps along with it, so they "
                "cannot be followed. Call cache_dit.disable_cache(pipe)."
            )
        log.forget_before(run.velocities_since)
        began = log.begin_step(sample)
        velocity = model_output
        if not run.was_computed(log.step):
            velocity = log.estimate(run.resolution.look_back_at(log.step))
        result = original(velocity, timestep, sample, *args, **kwargs)
        log.end_step(began, result[0], velocity)
        return result
