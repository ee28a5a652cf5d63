"""Prompt-seed pairs, and the pictures that an image pipeline makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otcache_plugin.evaluation.outputs import generate_outputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class Pair:
    """What is generated twice, with and without cache, to be compared."""

    prompt: str
    seed: int


def generate(
    pipe: DiffusionPipeline,
    pairs: Sequence[Pair],
    call_arguments: Mapping[str, Any],
    batch_size: int = 64,
) -> torch.Tensor:
    """Pictures of the pairs, each from its own seed whatever the batch.

    Args:
        pipe: an image pipeline.
        pairs: what to generate.
        call_arguments: further arguments of every call (steps, guidance, size).
        batch_size: pairs per call.

    Returns:
        ``(len(pairs), 3, H, W)`` float32 in [0, 1] on the CPU.
    """
    pictures = generate_outputs(pipe, pairs, call_arguments, batch_size).pictures
    assert pictures is not None
    return pictures.squeeze(1)
