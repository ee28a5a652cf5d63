"""What a pipeline makes of prompt-seed pairs: latents always, decoded pictures where asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from otcache_plugin.errors import PipelineError
from otcache_plugin.pipelines.method_hook import MethodHook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from diffusers import DiffusionPipeline

    from otcache_plugin.evaluation.pairs import Pair

__all__ = ["SPACES", "Outputs", "Space", "generate", "generate_outputs"]

Space = Literal["latents", "pictures"]
"""Where a metric compares."""

SPACES: frozenset[Space] = frozenset({"latents", "pictures"})


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a pipeline made of some pairs, in float32 on the CPU.

    Attributes:
        latents: `(N, …)`, as the last `scheduler.step` left them: packed or not, whatever the
            pipeline's form.
        pictures: `(N, F, 3, H, W)` in [0, 1], one frame for an image; None when not decoded.
    """

    latents: torch.Tensor
    pictures: torch.Tensor | None


@torch.no_grad()
def generate_outputs(
    pipe: DiffusionPipeline,
    pairs: Sequence[Pair],
    call_arguments: Mapping[str, Any],
    batch_size: int = 64,
    spaces: frozenset[Space] = SPACES,
) -> Outputs:
    """Run the pipeline on the pairs, each from its own seed whatever the batch.

    Args:
        pipe: an image or video pipeline.
        pairs: what to generate.
        call_arguments: further arguments of every call (steps, guidance, size).
        batch_size: pairs per call.
        spaces: those that will be compared in; without "pictures" nothing is decoded.

    Raises:
        PipelineError: the pipeline does not step its scheduler, or its answer has no pictures.
    """
    decode = "pictures" in spaces
    latents, pictures = [], []
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        recorder = _LastLatents(pipe.scheduler)
        try:
            answer = pipe(
                prompt=[pair.prompt for pair in batch],
                generator=[torch.Generator().manual_seed(pair.seed) for pair in batch],
                output_type="pt" if decode else "latent",
                **call_arguments,
            )
        finally:
            recorder.remove()
        if recorder.latents is None:
            raise PipelineError(
                "pipe",
                type(pipe).__name__,
                "a call of it takes no step of its scheduler, so it leaves no latents",
                "Use a pipeline that denoises by pipe.scheduler.step",
            )
        latents.append(recorder.latents.float().cpu())
        if decode:
            pictures.append(_pictures(pipe, answer).float().cpu())
    return Outputs(torch.cat(latents), torch.cat(pictures) if decode else None)


def generate(
    pipe: DiffusionPipeline,
    pairs: Sequence[Pair],
    call_arguments: Mapping[str, Any],
    batch_size: int = 64,
) -> torch.Tensor:
    """Return pictures of the pairs, each from its own seed whatever the batch.

    Args:
        pipe: an image pipeline.
        pairs: what to generate.
        call_arguments: further arguments of every call (steps, guidance, size).
        batch_size: pairs per call.

    Returns:
        `(len(pairs), 3, H, W)` float32 in [0, 1] on the CPU.
    """
    pictures = generate_outputs(pipe, pairs, call_arguments, batch_size).pictures
    assert pictures is not None
    return pictures.squeeze(1)


class _LastLatents:
    """Keeps what the latest step of a scheduler gave, until removed."""

    def __init__(self, scheduler: Any) -> None:
        self.latents: torch.Tensor | None = None
        self._hook = MethodHook(scheduler, "step", self._step)

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        self.latents = result[0]
        return result

    def remove(self) -> None:
        self._hook.remove()


def _pictures(pipe: DiffusionPipeline, answer: Any) -> torch.Tensor:
    """Return `(B, F, 3, H, W)` from what a pipeline answers with `output_type="pt"`."""
    frames: torch.Tensor
    if hasattr(answer, "frames"):
        frames = answer.frames
        return frames
    if hasattr(answer, "images"):
        frames = answer.images
        return frames.unsqueeze(1)
    raise PipelineError(
        "pipe",
        type(pipe).__name__,
        f"its {type(answer).__name__} has neither images nor frames",
        "Use a metric of latents, such as latent-l1",
    )
