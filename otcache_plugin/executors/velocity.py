"""The velocity executor: on a cached step the transformer is not called at all.

A hook on the transformer short-circuits its forward on cached steps, whatever the number of calls
per step (guidance as two calls, as one doubled batch, or none); what the pipeline then makes of
the stale output does not matter, because the model output that reaches `scheduler.step` is
replaced by the estimate: the average velocity, or the last one again where the scheduler takes no
Euler steps. Everything sits on the instances of one pipeline and is taken off again by `remove`.

A run begins at `scheduler.set_timesteps`: the state of any earlier run, finished or interrupted,
is dropped there, and what the run follows is resolved from the sigmas that the scheduler then has.

A policy that decides is asked once per step, before its first transformer call. It observes the
latents that the last `scheduler.step` gave (for the first step, those handed to it), in the
pipeline's own form: the transformer's input may be doubled for guidance or have a picture beside.

What the transformer gives may be kept, and a run that begins like one that was kept replays it: its
first transformer calls are answered with what they gave then.
"""

from __future__ import annotations

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
    require_look_back,
    supported_substitute,
)
from otcache_plugin.executors.solver_response import response_of_run
from otcache_plugin.executors.velocity_run import VelocityRun
from otcache_plugin.pipelines.parts import (
    find_denoisers,
    find_scheduler,
    refuse_token_noise_levels,
    remove_hook,
    require_same_scheduler,
    transformer_not_called,
)
from otcache_plugin.runs.plan import DecidingPlan, SchedulePlan
from otcache_plugin.runs.report import planned_report
from otcache_plugin.runs.resolution import ScheduledRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers import DiffusionPipeline

    from otcache_plugin.executors.output_log import OutputLog, Replay
    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import RunReport

HOOK_NAME = "otcache_velocity"
OBSERVED = "latents"
"""All that a policy is shown here. What else one may want to see is to be got in `new_forward`,
where every transformer call comes by."""

BLOCK_CACHE_ARGUMENTS = ("cache_config", "calibrator_config", "params_modifiers")


class VelocityExecutor:
    """Skips the whole transformer on cached steps and estimates their velocity.

    Args:
        replay: what an earlier run has computed already of every run under this executor.
        log: where the outputs of the transformer are kept; those of the latest run are in it.
    """

    name: ClassVar[str] = "velocity"

    def __init__(self, replay: Replay | None = None, log: OutputLog | None = None) -> None:
        self._replay = replay
        self._log = log

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
            ArgumentError: a block-cache argument was given, or the policy observes what this
                executor cannot show.
            PipelineError: no denoiser, or a scheduler with which no estimate is known to be
                right, or not the one that an explicit schedule or the policy asks for.
        """
        refuse_block_cache_arguments(cache_dit_arguments)
        scheduler = find_scheduler(pipe)
        substitute = supported_substitute(scheduler)
        if isinstance(plan, SchedulePlan):
            _require_look_backs(scheduler, ScheduledRun(plan.schedule))
        if isinstance(plan, DecidingPlan):
            _require_observable(plan)
            require_look_back(scheduler, plan.policy.look_back, "the policy")
        others = {name: value for name, value in cache_dit_arguments.items() if value is not None}
        if others:
            # Without a cache_config, cache-dit sets these up and leaves its own cache off.
            cache_dit_originals.original("enable_cache")(pipe, **others)
        denoisers = find_denoisers(pipe)
        return VelocityActivation(
            plan, denoisers, scheduler, substitute, pipe, self._replay, self._log
        )


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


def _require_look_backs(scheduler: Any, run: ScheduledRun) -> None:
    require_look_back(scheduler, run.largest_look_back, "the schedule", run.num_inference_steps)


def _require_observable(plan: DecidingPlan) -> None:
    """Raise ArgumentError when the policy observes something else than latents."""
    if plan.policy.observes != OBSERVED:
        raise ArgumentError(
            "executor",
            VelocityExecutor.name,
            f"policy {plan.policy_name!r} observes {plan.policy.observes!r} to decide, and this "
            f"executor shows {OBSERVED!r}",
            "Pass an executor that shows it (`otcache plugins` lists those there are), or another "
            "policy",
        )


class _SkipCachedSteps(ModelHook):
    """Answers the transformer calls of cached steps, and of computed ones that are replayed.

    A cached step's are answered with the outputs of the last computed step.
    """

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
        if not run.computes():
            return run.stale_outputs[min(call, len(run.stale_outputs) - 1)]
        replay, log = self.activation.replay, self.activation.log
        if replay is not None and replay.has(run.step, call):
            output = replay.log.read(run.step, call)
        else:
            output = self.fn_ref.original_forward(*args, **kwargs)
            run.transformer_calls += 1
        if log is not None:
            log.write(run.step, output)
        if call == 0:
            run.stale_outputs.clear()
        run.stale_outputs.append(output)
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
        replay: Replay | None = None,
        log: OutputLog | None = None,
    ) -> None:
        self.plan = plan
        self.replay = replay
        self.log = log
        self._pipe = pipe
        self._denoisers = denoisers
        self._scheduler = scheduler
        self._substitute = substitute
        self._run: VelocityRun | None = None
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
        resolution = run.resolution
        return replace(
            planned,
            num_inference_steps=resolution.num_inference_steps,
            planned_steps=resolution.planned_steps,
            look_backs=resolution.look_backs(run.computed_steps),
            computed_steps=tuple(run.computed_steps),
            finished_steps=run.step,
            transformer_calls=run.transformer_calls,
            adaptation=resolution.adaptation,
        )

    @torch.compiler.disable
    def run_for_forward(self) -> VelocityRun | None:
        """Return the run that a transformer call belongs to, None outside of any: a direct call."""
        require_same_scheduler(self._pipe, self._scheduler)
        if self._run_pending:
            self._begin(self._scheduler.begin_index or 0)
        if self._run is None or self._run.finished:
            return None
        return self._run

    def _begin(self, begin: int) -> None:
        sigmas = self._scheduler.sigmas[begin:].float()
        response = response_of_run(self._scheduler, begin)
        resolution = self.plan.resolve(sigmas.double().cpu().numpy(), response)
        if isinstance(resolution, ScheduledRun):
            _require_look_backs(self._scheduler, resolution)
        self._run = VelocityRun(resolution, sigmas, begin)
        self._run_pending = False

    def _set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        self._run, self._run_pending = None, True
        if self.log is not None:
            self.log.clear()
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
        # Pipelines may overwrite the latents that they hand over (Kandinsky 5), but no result.
        kept = bool(run.log) and sample is run.log[-1].x_after
        x_before = sample if kept else sample.clone()
        if run.step == 0:
            run.resolution.begin(x_before)
        velocity = self._velocity(run, model_output)
        result = self._scheduler_hooks.original_step(velocity, timestep, sample, *args, **kwargs)
        sigma, sigma_next = run.sigmas[run.step], run.sigmas[run.step + 1]
        run.advance(LogEntry(x_before, result[0], velocity, sigma, sigma_next))
        return result

    def _align(self, run: VelocityRun, timestep: float | torch.Tensor) -> VelocityRun:
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

    def _velocity(self, run: VelocityRun, model_output: torch.Tensor) -> torch.Tensor:
        if not run.computes():
            if self._substitute is Substitute.PLAIN_REUSE:
                return run.log[-1].velocity
            look_back = run.resolution.look_back_at(run.step)
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
