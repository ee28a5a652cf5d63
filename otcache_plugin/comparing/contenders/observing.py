"""What one denoising step of a pipeline looks like from outside: what caches of others depend on.

A step is run and watched once for a comparison, and what was seen is kept.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from otcache_plugin.evaluation.outputs import generate_outputs
from otcache_plugin.pipelines.method_hook import MethodHook
from otcache_plugin.pipelines.parts import find_denoisers

if TYPE_CHECKING:
    from collections.abc import Callable

    from otcache_plugin.comparing.methods import Bench

__all__ = ["ObservedStep", "observed_step"]


@dataclass(frozen=True)
class ObservedStep:
    """One denoising step of one prompt-seed pair.

    Attributes:
        calls: transformer calls; two where guidance is a second call.
        shape: of the latents that a call is given; its first is two where guidance doubles it.
        contexts: the names that the pipeline gives its calls for diffusers' caches.
        says_where: whether it also says which step of how many a call belongs to.
    """

    calls: int
    shape: tuple[int, ...]
    contexts: tuple[str, ...]
    says_where: bool

    @property
    def is_doubled(self) -> bool:
        """Whether a call has the pair twice, with and without its prompt."""
        return self.shape[0] == 2


def observed_step(bench: Bench) -> ObservedStep:
    """Return what a step looks like.

    Raises:
        PipelineError: the pipeline has no denoiser.
    """
    kept = bench.kept("denoising-step", lambda: asdict(_observe(bench)))
    shape, contexts = (tuple(kept[name]) for name in ("shape", "contexts"))
    return ObservedStep(**{**kept, "shape": shape, "contexts": contexts})


def _observe(bench: Bench) -> ObservedStep:
    shapes: list[torch.Size] = []
    contexts: dict[str, dict[str, Any]] = {}

    def saw_call(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = kwargs.get("hidden_states", args[0] if args else None)
        if isinstance(given, list):  # a tensor for each picture
            given = torch.stack(given)
        if isinstance(given, torch.Tensor):
            shapes.append(given.shape)

    with ExitStack() as stack:
        for denoiser in find_denoisers(bench.pipe):
            seeing = denoiser.register_forward_pre_hook(saw_call, with_kwargs=True)
            stack.callback(seeing.remove)
            if hasattr(denoiser, "cache_context"):
                stack.callback(_note_contexts(denoiser, contexts).remove)
        generate_outputs(
            bench.pipe,
            bench.calibration_pairs(1),
            {**bench.call_arguments, "num_inference_steps": 1},
            spaces=frozenset({"latents"}),
        )
    return ObservedStep(
        len(shapes),
        tuple(shapes[0]),
        tuple(contexts),
        any(where.get("step_index") is not None for where in contexts.values()),
    )


def _note_contexts(denoiser: Any, contexts: dict[str, dict[str, Any]]) -> MethodHook:
    def noted(original: Callable[..., Any], name: str, **where: Any) -> Any:
        contexts[name] = where
        return original(name, **where)

    return MethodHook(denoiser, "cache_context", noted)
