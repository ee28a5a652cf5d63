"""The velocity executor: on a cached step the transformer is not called at all.

A hook on the transformer short-circuits its forward on cached steps, whatever the number of calls
per step (guidance as two calls, as one doubled batch, or none); what the pipeline then makes of
the stale output does not matter, because the model output that reaches `scheduler.step` is
replaced by the estimate: the average velocity, or the last one again where the scheduler takes no
Euler steps. Everything sits on the instances of one pipeline and is taken off again by `remove`.

A run begins at `scheduler.set_timesteps`: the state of any earlier run, finished or interrupted,
is dropped there, and the schedule is resolved from the sigmas that the scheduler then has.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from diffusers.hooks import HookRegistry, ModelHook

from otcache_plugin import cache_dit_originals
from otcache_plugin.errors import ArgumentError, ExecutionError
from otcache_plugin.executors.estimator import LogEntry, estimate_velocity
from otcache_plugin.executors.scheduler_hooks import SchedulerHooks
from otcache_plugin.executors.schedulers import (
    Substitute,
    require_look_backs,
    supported_substitute,
)
from otcache_plugin.pipelines.parts import (
    find_denoisers,
    find_scheduler,
    refuse_token_noise_levels,
    remove_hook,
    require_same_scheduler,
    transformer_not_called,
)
from otcache_plugin.runs.plan import SchedulePlan
from otcache_plugin.runs.report import planned_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers import DiffusionPipeline

    from otcache_plugin.runs.plan import Plan, Resolution
    from otcache_plugin.runs.report import RunReport

HOOK_NAME = "otcache_velocity"
BLOCK_CACHE_ARGUMENTS = ("cache_config", "calibrator_config", "params_modifiers")


class VelocityExecutor:
    """Skips the whole transformer on cached steps and estimates their velocity."""

    name: ClassVar[str] = "velocity"

    def apply(
        self, pipe: DiffusionPipeline, plan: Plan, cache_dit_arguments: Mapping[str, Any]
    ) -> VelocityActivation:
        """Hook the pipeline's denoisers and scheduler.

        Args:
            pipe: the pipeline to accelerate.
            plan: what to compute.
            cache_dit_arguments: the remaining arguments of `cache_dit.enable_cache`; those that
                configure its block cache contradict this executor, the others go to cache-dit.

        Returns:
            The activation, which reports and removes itself.

        Raises:
            ArgumentError: a block-cache argument was given.
            PipelineError: no denoiser, or a scheduler with which no estimate is known to be
                right, or not the one that an explicit schedule asks for.
        """
        refuse_block_cache_arguments(cache_dit_arguments)
        scheduler = find_scheduler(pipe)
        substitute = supported_substitute(scheduler)
        if isinstance(plan, SchedulePlan):
            require_look_backs(scheduler, plan.schedule)
        others = {name: value for name, value in cache_dit_arguments.items() if value is not None}
        if others:
            # Without a cache_config, cache-dit sets these up and leaves its own cache off.
            cache_dit_originals.original("enable_cache")(pipe, **others)
        return VelocityActivation(plan, find_denoisers(pipe), scheduler, substitute, pipe)


def refuse_block_cache_arguments(cache_dit_arguments: Mapping[str, Any]) -> None:
    """Raise ArgumentError when cache-dit's block cache is configured beside this executor."""
    for name in BLOCK_CACHE_ARGUMENTS:
        if cache_dit_arguments.get(name) is not None:
            raise ArgumentError(
                name,
                cache_dit_arguments[name],
                "contradicts executor='velocity', which skips the whole transformer and leaves "
                "nothing for cache-dit's block cache to decide",
                "Drop it, or pass executor='blocks' to run the schedule inside cache-dit's cache",
            )


class _Run:
    """What one run has done so far."""

    def __init__(self, resolution: Resolution, sigmas: torch.Tensor, begin: int) -> None:
        self.schedule = resolution.schedule
        self.transferred = resolution.transferred
        self.sigmas = sigmas
        self.begin = begin
        self.step = 0
        self.calls_in_step = 0
        self.computed_steps: list[int] = []
        self.transformer_calls = 0
        self.stale_outputs: list[Any] = []
        self.log: deque[LogEntry] = deque(maxlen=max(self.schedule.look_backs, default=1))

    @property
    def finished(self) -> bool:
        return self.step == self.schedule.num_inference_steps

    def release(self) -> None:
        """Drop the tensors, which nothing needs once the last step is taken."""
        self.stale_outputs.clear()
        self.log.clear()


class _SkipCachedSteps(ModelHook):
    """Answers a cached step's transformer call with the output of the last computed step."""

    def __init__(self, activation: VelocityActivation) -> None:
        super().__init__()
        self.activation = activation

    # Compiled, the model is one graph: what this decides from step to step is no part of it.
    @torch.compiler.disable(recursive=False)
    def new_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        run = self.activation.run_for_forward()
        if run is None:
            return self.fn_ref.original_forward(*args, **kwargs)
        call, run.calls_in_step = run.calls_in_step, run.calls_in_step + 1
        if not run.schedule.is_computed(run.step):
            return run.stale_outputs[min(call, len(run.stale_outputs) - 1)]
        output = self.fn_ref.original_forward(*args, **kwargs)
        if call == 0:
            run.stale_outputs.clear()
        run.stale_outputs.append(output)
        run.transformer_calls += 1
        return output


class VelocityActivation:
    """The hooks on one pipeline, and the state of its current or last run."""

    def __init__(
        self,
        plan: Plan,
        denoisers: tuple[torch.nn.Module, ...],
        scheduler: Any,
        substitute: Substitute,
        pipe: DiffusionPipeline,
    ) -> None:
        self.plan = plan
        self._pipe = pipe
        self._denoisers = denoisers
        self._scheduler = scheduler
        self._substitute = substitute
        self._run: _Run | None = None
        self._run_pending = False
        for denoiser in denoisers:
            registry = HookRegistry.check_if_exists_or_initialize(denoiser)
            registry.register_hook(_SkipCachedSteps(self), HOOK_NAME)
        self._scheduler_hooks = SchedulerHooks(scheduler, self._set_timesteps, self._step)

    def remove(self) -> None:
        """Take every hook off; the pipeline is then as it was."""
        for denoiser in self._denoisers:
            remove_hook(denoiser, HOOK_NAME)
        self._scheduler_hooks.remove()
        self._run, self._run_pending = None, False

    def report(self) -> RunReport:
        """Return the current or last run."""
        planned = planned_report(self.plan, VelocityExecutor.name)
        run = self._run
        if run is None:
            return planned
        return replace(
            planned,
            num_inference_steps=run.schedule.num_inference_steps,
            planned_steps=run.schedule.computed_steps,
            look_backs=run.schedule.look_backs,
            computed_steps=tuple(run.computed_steps),
            finished_steps=run.step,
            transformer_calls=run.transformer_calls,
            transferred=run.transferred,
        )

    @torch.compiler.disable
    def run_for_forward(self) -> _Run | None:
        """Return the run that a transformer call belongs to, None outside of any: a direct call."""
        require_same_scheduler(self._pipe, self._scheduler)
        if self._run_pending:
            self._begin(self._scheduler.begin_index or 0)
        if self._run is None or self._run.finished:
            return None
        return self._run

    def _begin(self, begin: int) -> None:
        sigmas = self._scheduler.sigmas[begin:].float()
        resolution = self.plan.resolve(sigmas.double().cpu().numpy())
        require_look_backs(self._scheduler, resolution.schedule)
        self._run = _Run(resolution, sigmas, begin)
        self._run_pending = False

    def _set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        self._run, self._run_pending = None, True
        self._scheduler_hooks.original_set_timesteps(*args, **kwargs)

    def _step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        run = self._run
        if run is None or run.finished:
            raise transformer_not_called()
        refuse_token_noise_levels(kwargs)
        run = self._align(run, timestep)
        velocity = self._velocity(run, model_output)
        # Pipelines may overwrite the latents that they hand over (Kandinsky 5), but no result.
        kept = bool(run.log) and sample is run.log[-1].x_after
        x_before = sample if kept else sample.clone()
        result = self._scheduler_hooks.original_step(velocity, timestep, sample, *args, **kwargs)
        sigma, sigma_next = run.sigmas[run.step], run.sigmas[run.step + 1]
        run.log.append(LogEntry(x_before, result[0], velocity, sigma, sigma_next))
        run.step, run.calls_in_step = run.step + 1, 0
        if run.finished:
            run.release()
        return result

    def _align(self, run: _Run, timestep: float | torch.Tensor) -> _Run:
        """Begin the run anew when its first step is not the scheduler's first.

        Image-to-image pipelines skip the first timesteps; some say so by `set_begin_index`,
        others only by the timestep of the first step, when step 0 has been computed already.
        """
        if run.step > 0 or self._scheduler.begin_index is not None:
            return run
        begin = self._scheduler.index_for_timestep(timestep)
        if begin == run.begin:
            return run
        self._begin(begin)
        fresh = self._run
        assert fresh is not None
        fresh.stale_outputs, fresh.transformer_calls = run.stale_outputs, run.transformer_calls
        fresh.calls_in_step = run.calls_in_step
        return fresh

    def _velocity(self, run: _Run, model_output: torch.Tensor) -> torch.Tensor:
        if not run.schedule.is_computed(run.step):
            if self._substitute is Substitute.PLAIN_REUSE:
                return run.log[-1].velocity
            look_back = run.schedule.look_back_at(run.step)
            sigma, sigma_next = run.sigmas[run.step], run.sigmas[run.step + 1]
            return estimate_velocity(run.log, look_back, sigma, sigma_next)
        if run.calls_in_step == 0:
            raise ExecutionError(
                f"step {run.step} is to be computed, but the pipeline did not call the hooked "
                "transformer (was it replaced or compiled after enable_cache?). "
                "Call cache_dit.enable_cache(pipe, policy=…) again."
            )
        run.computed_steps.append(run.step)
        return model_output
