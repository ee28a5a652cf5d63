"""The parts of a pipeline that executors hook, found or refused with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers import FlowMatchEulerDiscreteScheduler

from otcache_plugin.errors import ExecutionError, PipelineError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

DENOISERS = ("transformer", "transformer_2")
"""Attributes of a pipeline that hold a denoiser; Wan 2.2 has two."""


def find_denoisers(pipe: DiffusionPipeline) -> tuple[torch.nn.Module, ...]:
    """The pipeline's transformers; raises PipelineError when it has none."""
    found = tuple(
        module for name in DENOISERS if (module := getattr(pipe, name, None)) is not None
    )
    if not found:
        raise PipelineError(
            "transformer",
            None,
            f"{type(pipe).__name__} has no transformer",
            "Pass a diffusers pipeline with a transformer denoiser (FLUX, Qwen-Image, …)",
        )
    return found


def find_scheduler(pipe: DiffusionPipeline) -> Any:
    """The pipeline's scheduler; raises PipelineError when it has none."""
    scheduler = getattr(pipe, "scheduler", None)
    if scheduler is None:
        raise PipelineError(
            "scheduler",
            None,
            f"{type(pipe).__name__} has no scheduler",
            "Set pipe.scheduler, e.g. to a FlowMatchEulerDiscreteScheduler",
        )
    return scheduler


def find_euler_scheduler(pipe: DiffusionPipeline) -> FlowMatchEulerDiscreteScheduler:
    """The pipeline's scheduler; raises PipelineError unless it takes Euler steps of a velocity."""
    scheduler = find_scheduler(pipe)
    if not isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        raise PipelineError(
            "scheduler",
            type(scheduler).__name__,
            "the average velocity is defined for Euler steps of a flow-matching velocity",
            "Use a FlowMatchEulerDiscreteScheduler, or executor='blocks'",
        )
    if scheduler.config.get("stochastic_sampling"):
        raise PipelineError(
            "scheduler.stochastic_sampling",
            True,
            "its steps add noise, so the latents' displacement is not an average velocity",
            "Set stochastic_sampling=False, or use executor='blocks'",
        )
    return scheduler


def require_same_scheduler(pipe: DiffusionPipeline, hooked: Any) -> None:
    """Raises ExecutionError when the pipeline no longer uses the scheduler that was hooked."""
    if pipe.scheduler is not hooked:
        raise ExecutionError(
            "the pipeline's scheduler was replaced after enable_cache, so its steps cannot be "
            "followed. Call cache_dit.enable_cache(pipe, policy=…) again."
        )
