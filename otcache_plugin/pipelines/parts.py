"""The parts of a pipeline that executors need, found or refused with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.errors import ExecutionError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from diffusers import DiffusionPipeline

DENOISERS = ("transformer", "transformer_2", "unconditional_transformer")
"""Attributes of a pipeline that hold a denoiser; Wan 2.2 and Ideogram 4 have two."""

FEEDERS = ("controlnet",)
"""Attributes of a pipeline that hold what feeds its denoiser alone."""


def find_denoisers(pipe: DiffusionPipeline) -> tuple[torch.nn.Module, ...]:
    """Return the pipeline's transformers.

    Raises:
        PipelineError: it has none, or one under a name that is not known.
    """
    found = tuple(module for name in DENOISERS if (module := getattr(pipe, name, None)) is not None)
    if not found:
        raise PipelineError(
            "transformer",
            None,
            f"{type(pipe).__name__} has no transformer",
            "Pass a diffusers pipeline with a transformer denoiser (FLUX, Qwen-Image, …)",
        )
    _refuse_unknown_denoisers(pipe, found)
    return found


def _refuse_unknown_denoisers(pipe: DiffusionPipeline, known: tuple[torch.nn.Module, ...]) -> None:
    """Raise PipelineError for another part of a denoiser's class: its calls would go unnoticed."""
    classes = {type(module) for module in known}
    for name, part in vars(pipe).items():
        if type(part) in classes and not any(part is module for module in known):
            raise PipelineError(
                name,
                type(part).__name__,
                f"{type(pipe).__name__} has a denoiser there, and only those at "
                f"{', '.join(DENOISERS)} are followed",
                "Use cache-dit's own cache, without policy=",
            )


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


def refuse_cache_of_others(pipe: DiffusionPipeline) -> None:
    """Raise PipelineError when cache-dit's own cache is on a transformer, but not on the pipeline.

    It counts the calls of the transformer, of which a policy leaves some out.
    """
    own = vars(pipe).get("_context_manager")
    for denoiser in find_denoisers(pipe):
        found = getattr(denoiser, "_context_manager", None)
        if found is not None and found is not own:
            raise PipelineError(
                "transformer",
                type(denoiser).__name__,
                "cache-dit's own cache is on it, enabled on itself or on another pipeline that "
                "shares it",
                "Call cache_dit.disable_cache on that one first",
            )


def transformer_not_called() -> ExecutionError:
    """Return the error of a step that was taken without a denoiser called for it."""
    return ExecutionError(
        "scheduler.step was called without the transformer: this pipeline denoises with something "
        f"other than {' or '.join(f'pipe.{name}' for name in DENOISERS)}, or takes more steps than "
        "its scheduler has been set to, so its steps cannot be followed. Call "
        "cache_dit.disable_cache(pipe)."
    )


def step_not_taken() -> ExecutionError:
    """Return the error of a denoiser that was called without the scheduler's step after it."""
    return ExecutionError(
        "the transformer was called, but no step of pipe.scheduler followed: this pipeline steps "
        "by a copy of its scheduler or by itself (SkyReels-V2 with diffusion forcing has a "
        "scheduler for every frame), so its steps cannot be followed. Call "
        "cache_dit.disable_cache(pipe)."
    )


def called_by_hand(pipeline: str) -> ExecutionError:
    """Return the error of a call that went past the pipeline's policy.

    Args:
        pipeline: the class whose method was called.
    """
    return ExecutionError(
        f"{pipeline}.__call__(pipe, …) goes past the policy that is enabled on pipe. Call pipe(…), "
        "or cache_dit.disable_cache(pipe) first."
    )


def refuse_token_noise_levels(step_arguments: Mapping[str, Any], remedy: str) -> None:
    """Raise ExecutionError when a step gives every token a noise level of its own.

    Args:
        step_arguments: of `scheduler.step`.
        remedy: what to do about it.
    """
    if step_arguments.get("per_token_timesteps") is not None:
        raise ExecutionError(
            "this pipeline denoises tokens at different noise levels (per_token_timesteps), "
            f"which the velocity executor cannot follow. {remedy}."
        )
