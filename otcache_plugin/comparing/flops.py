"""Floating-point operations of a pipeline call, counted by torch while it runs.

A cache that leaves blocks out leaves their operations out of the count, so variants can be compared
whatever a "computed step" is to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from otcache_plugin.pipelines.parts import find_denoisers

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import DiffusionPipeline

__all__ = ["Flops", "flops"]


def _attention(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    count: int = sdpa_flop_count(query, key, value)
    return count


NOT_COUNTED_BY_TORCH = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_fused_attention_overrideable: _attention,
}
"""Kernels of attention that torch's counter has no formula for; those of CUDA it has."""


@dataclass(frozen=True)
class Flops:
    """Operations of a call, two for every multiplication with addition.

    Attributes:
        total: of everything, text encoders and decoder included.
        denoiser: of the transformers alone.
    """

    total: int
    denoiser: int


def flops(pipe: DiffusionPipeline, call: Callable[[], Any]) -> Flops:
    """Count the operations of a call of a pipeline.

    Matrix products, convolutions and attention are counted; what acts on single values, as norms
    and activations do, is not. The count makes a call of small tensors several times slower, so it
    is not to be timed.

    Args:
        pipe: the pipeline, with whatever is enabled on it.
        call: calls it.

    Raises:
        PipelineError: the pipeline has no denoiser.
    """
    names = {type(denoiser).__name__ for denoiser in find_denoisers(pipe)}
    counter = FlopCounterMode(display=False, custom_mapping=NOT_COUNTED_BY_TORCH)
    with counter:
        call()
    counts = counter.get_flop_counts()
    return Flops(
        counter.get_total_flops(), sum(sum(counts.get(name, {}).values()) for name in names)
    )
