"""The blocks executor: the schedule as cache-dit's own `steps_computation_mask`.

cache-dit then decides nothing about *when*: on computed steps every block runs, on cached steps
the first `Fn_compute_blocks` run and the rest is reused or, with a calibrator, extrapolated.
Slower than the velocity executor, and at home wherever cache-dit is: its calibrators, context and
tensor parallelism, any scheduler. The mask is set at every run, from that run's steps.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from diffusers.hooks import HookRegistry, ModelHook

from otcache_plugin import cache_dit_originals
from otcache_plugin.errors import ArgumentError, ExecutionError, PipelineError
from otcache_plugin.executors.scheduler_hooks import SchedulerHooks
from otcache_plugin.executors.solver_response import response_of_run
from otcache_plugin.pipelines.parts import (
    find_denoisers,
    find_scheduler,
    remove_hook,
    require_one_denoiser,
    require_same_scheduler,
    transformer_not_called,
)
from otcache_plugin.runs.plan import DecidingPlan
from otcache_plugin.runs.report import planned_report
from otcache_plugin.runs.resolution import ScheduledRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers import DiffusionPipeline

    from otcache_plugin.runs.plan import Plan
    from otcache_plugin.runs.report import RunReport

HOOK_NAME = "otcache_blocks"
VELOCITY = "Use executor='velocity'"


class BlocksExecutor:
    """Runs a schedule inside cache-dit's block cache."""

    name: ClassVar[str] = "blocks"

    def apply(
        self, pipe: DiffusionPipeline, plan: Plan, cache_dit_arguments: Mapping[str, Any]
    ) -> BlocksActivation:
        """Enable cache-dit's cache on the pipeline, its mask following the plan.

        Args:
            pipe: a pipeline that cache-dit supports.
            plan: what to compute.
            cache_dit_arguments: the remaining arguments of `cache_dit.enable_cache`.

        Returns:
            The activation, which reports and removes itself.

        Raises:
            ArgumentError: the `cache_config` says itself which steps to compute, or the policy
                decides it at every step.
            PipelineError: cache-dit does not support the pipeline, it has two transformers, or
                its scheduler has no sigmas to resolve a schedule from.
        """
        if isinstance(plan, DecidingPlan):
            raise ArgumentError(
                "executor",
                BlocksExecutor.name,
                f"cache-dit is told the computed steps when a run begins, and policy "
                f"{plan.policy_name!r} decides at every step",
                "Pass executor='velocity', or a policy that gives a schedule",
            )
        _require_blocks(pipe)
        require_one_denoiser(
            pipe, "cache-dit counts the steps of each of its transformers on its own", VELOCITY
        )
        scheduler = find_scheduler(pipe)
        if not hasattr(scheduler, "sigmas"):
            raise PipelineError(
                "scheduler",
                type(scheduler).__name__,
                "it has no sigmas to resolve a schedule from",
                "Use a scheduler of the flow-matching, Euler or UniPC families",
            )
        arguments = dict(cache_dit_arguments)
        arguments["cache_config"] = _cache_config(arguments.get("cache_config"))
        original_class = type(pipe)
        pipe.__class__ = _own_class(original_class)
        try:
            cache_dit_originals.original("enable_cache")(pipe, **arguments)
            return BlocksActivation(pipe, plan, scheduler, original_class)
        except BaseException:
            pipe.__class__ = original_class
            raise


def _require_blocks(pipe: DiffusionPipeline) -> None:
    """Raise PipelineError unless cache-dit knows the blocks of the pipeline."""
    from cache_dit.caching.block_adapters import BlockAdapterRegister

    if not BlockAdapterRegister.is_supported(pipe):
        problem = "cache-dit knows no blocks of this pipeline"
        raise PipelineError("pipe_or_adapter", type(pipe).__name__, problem, VELOCITY)


def _own_class(original: type[DiffusionPipeline]) -> type[DiffusionPipeline]:
    """Return a class for one pipeline: cache-dit patches `__call__` on the class, for all of it."""
    names = {name: getattr(original, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(original.__name__, (original,), names)


def _cache_config(given: Any) -> Any:
    from cache_dit import DBCacheConfig

    if given is None:
        return DBCacheConfig(Fn_compute_blocks=1, steps_computation_policy="static")
    for name in ("steps_computation_mask", "num_inference_steps"):
        if getattr(given, name) is not None:
            raise ArgumentError(
                f"cache_config.{name}",
                getattr(given, name),
                "contradicts policy=, which decides at every run which steps are computed",
                "Drop it from the cache_config, or drop policy=",
            )
    return replace(copy.deepcopy(given), steps_computation_policy="static")


class _CountCalls(ModelHook):
    """Sets the mask at a run's first transformer call, and counts the calls."""

    def __init__(self, activation: BlocksActivation) -> None:
        super().__init__()
        self.activation = activation

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.activation.before_call()
        return args, kwargs


class BlocksActivation:
    """cache-dit's cache on one pipeline, and what its current or last run did."""

    def __init__(
        self,
        pipe: DiffusionPipeline,
        plan: Plan,
        scheduler: Any,
        original_class: type[DiffusionPipeline],
    ) -> None:
        self.plan = plan
        self._pipe = pipe
        self._scheduler = scheduler
        self._original_class = original_class
        self._resolution: ScheduledRun | None = None
        self._run_pending = False
        self._step = 0
        self._calls = 0
        self._calls_in_step = 0
        self._scheduler_hooks = SchedulerHooks(scheduler, self._set_timesteps, self._count_step)
        for denoiser in find_denoisers(pipe):
            registry = HookRegistry.check_if_exists_or_initialize(denoiser)
            registry.register_hook(_CountCalls(self), HOOK_NAME)

    def remove(self) -> None:
        """Take cache-dit's cache and the hooks off; the pipeline is then as it was."""
        for denoiser in find_denoisers(self._pipe):
            remove_hook(denoiser, HOOK_NAME)
        self._scheduler_hooks.remove()
        cache_dit_originals.original("disable_cache")(self._pipe)
        self._pipe.__class__ = self._original_class

    def report(self) -> RunReport:
        """Return the current or last run."""
        planned = planned_report(self.plan, BlocksExecutor.name)
        if self._resolution is None:
            return planned
        schedule = self._resolution.schedule
        cached = {
            step
            for context in self._contexts()
            for step in (*context.cached_steps, *context.cfg_cached_steps)
        }
        return replace(
            planned,
            num_inference_steps=schedule.num_inference_steps,
            planned_steps=schedule.computed_steps,
            look_backs=schedule.look_backs,
            computed_steps=tuple(step for step in range(self._step) if step not in cached),
            finished_steps=self._step,
            transformer_calls=self._calls,
            adaptation=self._resolution.adaptation,
        )

    @torch.compiler.disable
    def before_call(self) -> None:
        """Called before every transformer call."""
        require_same_scheduler(self._pipe, self._scheduler)
        if self._run_pending:
            self._begin()
        self._calls += 1
        self._calls_in_step += 1

    def _expected_calls(self) -> int:
        """Transformer calls that cache-dit takes for one step."""
        separate = all(context.cache_config.enable_separate_cfg for context in self._contexts())
        return 2 if separate else 1

    def _contexts(self) -> list[Any]:
        # cache-dit has no public way to its contexts; they are made anew at every run.
        return list(self._pipe._context_manager._cached_context_manager.values())

    def _begin(self) -> None:
        begin = self._scheduler.begin_index or 0
        sigmas = self._scheduler.sigmas[begin:].double().cpu().numpy()
        resolution = self.plan.resolve(sigmas, response_of_run(self._scheduler, begin))
        assert isinstance(resolution, ScheduledRun), "a policy that decides was refused"
        self._resolution = resolution
        self._run_pending = False
        self._step = self._calls = self._calls_in_step = 0
        mask = [int(computed) for computed in resolution.schedule.mask]
        for context in self._contexts():
            context.cache_config.steps_computation_mask = mask

    def _set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        self._resolution, self._run_pending = None, True
        self._scheduler_hooks.original_set_timesteps(*args, **kwargs)

    def _count_step(self, *args: Any, **kwargs: Any) -> Any:
        if self._calls_in_step == 0:
            raise transformer_not_called()
        if self._calls_in_step != self._expected_calls():
            raise _wrong_number_of_calls(self._calls_in_step, self._expected_calls())
        result = self._scheduler_hooks.original_step(*args, **kwargs)
        self._step += 1
        self._calls_in_step = 0
        return result


def _wrong_number_of_calls(calls: int, expected: int) -> ExecutionError:
    separate = expected == 1
    remedy = (
        f"cache_config=DBCacheConfig(Fn_compute_blocks=1, enable_separate_cfg={separate})"
        if calls <= 2
        else "executor='velocity'"
    )
    return ExecutionError(
        f"calls of the transformer in this step: {calls}, but cache-dit counts on {expected}, so "
        f"its steps are not those of the run. Pass {remedy}."
    )
