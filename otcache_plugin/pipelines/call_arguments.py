"""What a document speaks of in a pipeline's call: guidance and size, and its scheduler."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from otcache_registry.finding.nearest import RunSetup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diffusers import DiffusionPipeline

GUIDANCE_WORDS = ("guidance", "cfg")
"""What the names of guidance arguments have in common."""

SIZES = ("height", "width", "num_frames")

IMAGE = "image"


def is_guidance(name: str, value: object) -> bool:
    """Return whether an argument of a call is a number that says how much guidance there is."""
    return isinstance(value, int | float) and any(word in name for word in GUIDANCE_WORDS)


def guidance_of(pipe: DiffusionPipeline | None) -> dict[str, float]:
    """Return the guidance scales that a pipeline has now, which a callback may change."""
    return _guidance({} if pipe is None else vars(pipe))


def usual_arguments(pipe: DiffusionPipeline) -> dict[str, Any]:
    """Return the guidance scales and the size of a call that says neither, as far as known."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(type(pipe).__call__).parameters.items()
    }
    usual = {
        name: value
        for name, value in defaults.items()
        if name.endswith("_scale") and is_guidance(name, value)
    }
    for name in SIZES:
        if name in defaults:
            value = defaults[name] or _usual_size(pipe)
            if isinstance(value, int):
                usual[name] = value
    return usual


def run_setup(
    pipe: DiffusionPipeline, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> RunSetup:
    """Return what a pipeline and the arguments of its call say of its run, as far as they do.

    Args:
        pipe: the pipeline.
        args: positional arguments of the call.
        kwargs: the others.
    """
    names = list(inspect.signature(type(pipe).__call__).parameters)[1:]  # without self
    passed = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
    given = {name: value for name, value in passed.items() if value is not None}
    usual = usual_arguments(pipe)
    if IMAGE in given:
        # A size that is not given is then the image's.
        usual = {name: value for name, value in usual.items() if name not in SIZES}
    call = {**usual, **given}
    steps, height, width = (
        value if isinstance(value, int) else None
        for value in (
            call.get("num_inference_steps", usual_steps(pipe)),
            call.get("height"),
            call.get("width"),
        )
    )
    scheduler = getattr(pipe, "scheduler", None)
    return RunSetup(
        type(pipe).__name__,
        steps,
        height,
        width,
        _guidance(call),
        _guidance(usual),
        None if scheduler is None else type(scheduler).__name__,
    )


def _guidance(arguments: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in arguments.items() if is_guidance(name, value)}


def usual_steps(pipe: DiffusionPipeline) -> int | None:
    """Return the steps of a call that says none, None where that is unknown."""
    parameter = inspect.signature(type(pipe).__call__).parameters.get("num_inference_steps")
    default = None if parameter is None else parameter.default
    return default if isinstance(default, int) else None


def _usual_size(pipe: DiffusionPipeline) -> int | None:
    """Return the pixels of a side where the call's default is left to the pipeline."""
    latents, scale = (
        getattr(pipe, name, None) for name in ("default_sample_size", "vae_scale_factor")
    )
    return latents * scale if isinstance(latents, int) and isinstance(scale, int) else None
