"""Prompt-seed pairs, and what a pipeline makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class Pair:
    """What is generated twice, with and without cache, to be compared."""

    prompt: str
    seed: int


@torch.no_grad()
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
    pictures = []
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        output = pipe(
            prompt=[pair.prompt for pair in batch],
            generator=[torch.Generator().manual_seed(pair.seed) for pair in batch],
            output_type="pt",
            **call_arguments,
        )
        pictures.append(output.images.float().cpu())
    return torch.cat(pictures)
