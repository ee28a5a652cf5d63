"""The parts of a pipeline that executors hook, found or refused with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffusers.hooks import HookRegistry

from otcache_plugin.errors import ExecutionError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from diffusers import DiffusionPipeline

DENOISERS = ("transformer", "transformer_2")
"""Attributes of a pipeline that hold a denoiser; Wan 2.2 has two."""


def find_denoisers(pipe: DiffusionPipeline) -> tuple[torch.nn.Module, ...]:
    """Return the pipeline's transformers; raise PipelineError when it has none."""
    found = tuple(module for name in DENOISERS if (module := getattr(pipe, name, None)) is not None)
    if not found:
        raise PipelineError(
            "transformer",
            None,
            f"{type(pipe).__name__} has no transformer",
            "Pass a diffusers pipeline with a transformer denoiser (FLUX, Qwen-Image, …)",
        )
    return found


def require_one_denoiser(pipe: DiffusionPipeline, problem: str, remedy: str) -> None:
    """Raise PipelineError, with what stands against it, when a pipeline has two transformers."""
    if len(find_denoisers(pipe)) > 1:
        raise PipelineError("pipe_or_adapter", type(pipe).__name__, problem, remedy)


def find_scheduler(pipe: DiffusionPipeline) -> Any:
    """Return the pipeline's scheduler; raise PipelineError when it has none."""
    scheduler = getattr(pipe, "scheduler", None)
    if scheduler is None:
        raise PipelineError(
            "scheduler",
            None,
            f"{type(pipe).__name__} has no scheduler",
            "Set pipe.scheduler, e.g. to a FlowMatchEulerDiscreteScheduler",
        )
    return scheduler


def remove_hook(denoiser: torch.nn.Module, name: str) -> None:
    """Take a hook off; when it was the last one, `forward` is the class's again."""
    HookRegistry.check_if_exists_or_initialize(denoiser).remove_hook(name, recurse=False)
    # diffusers leaves the method bound in the instance, where it would hide a later patch.
    forward = vars(denoiser).get("forward")
    if getattr(forward, "__func__", None) is type(denoiser).forward:
        del denoiser.forward


def transformer_not_called() -> ExecutionError:
    """Return the error of a step that was taken without calling the hooked transformer."""
    return ExecutionError(
        "scheduler.step was called without the transformer: the module that the pipeline calls is "
        "not the one that was hooked (was it replaced or compiled after enable_cache?). "
        "Call cache_dit.enable_cache(pipe, policy=…) again."
    )


def require_same_scheduler(pipe: DiffusionPipeline, hooked: Any) -> None:
    """Raise ExecutionError when the pipeline no longer uses the scheduler that was hooked."""
    if pipe.scheduler is not hooked:
        raise ExecutionError(
            "the pipeline's scheduler was replaced after enable_cache, so its steps cannot be "
            "followed. Call cache_dit.enable_cache(pipe, policy=…) again."
        )


def refuse_token_noise_levels(step_arguments: Mapping[str, Any]) -> None:
    """Raise ExecutionError when a step gives every token a noise level of its own."""
    if step_arguments.get("per_token_timesteps") is not None:
        raise ExecutionError(
            "this pipeline denoises tokens at different noise levels (per_token_timesteps), "
            "which the velocity executor cannot follow. Use executor='blocks'."
        )
