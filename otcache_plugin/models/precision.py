"""One dtype for a whole pipeline, whatever its parts were stored in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def convert(pipe: DiffusionPipeline, dtype: torch.dtype) -> None:
    """Convert every module of the pipeline in place.

    Not while loading, for diffusers has renamed that argument and transformers keeps the stored
    dtype without it; and not by the modules' own `to`, which warns of parts to be kept in float32
    even when there are none.
    """
    for module in pipe.components.values():
        if isinstance(module, torch.nn.Module):
            torch.nn.Module.to(module, dtype)
