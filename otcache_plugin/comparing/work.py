"""How much of the full run a run computes, in steps, whatever it leaves out.

What is counted are the products of the denoiser's linear layers, by hooks on them, which costs a
run next to nothing: a threshold is searched for by runs. What is reported are FLOPs (`counting`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from otcache_plugin.pipelines.parts import find_denoisers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffusers import DiffusionPipeline

__all__ = ["Work", "counted_work"]


@dataclass
class Work:
    """What the denoisers of a pipeline did meanwhile.

    Attributes:
        products: multiplications of their linear layers.
    """

    products: int = 0

    def _add(self, layer: Any, inputs: Any, output: torch.Tensor) -> None:
        self.products += layer.in_features * output.numel()


@contextmanager
def counted_work(pipe: DiffusionPipeline) -> Iterator[Work]:
    """Count the products inside the block: those of blocks that a cache leaves out are missing.

    Raises:
        PipelineError: the pipeline has no denoiser.
    """
    work = Work()
    hooks = [
        layer.register_forward_hook(work._add)
        for denoiser in find_denoisers(pipe)
        for layer in denoiser.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    try:
        yield work
    finally:
        for hook in hooks:
            hook.remove()
