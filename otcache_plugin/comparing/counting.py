"""What a pipeline's call takes besides time: operations, calls of the transformer and its blocks.

Counted by what is hooked on innermost, and by PyTorch's own counter: whatever a method leaves out,
by whichever means, is not there to be counted.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from otcache_plugin.pipelines.parts import find_denoisers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffusers import DiffusionPipeline

COUNTER_HOOK = "otcache_comparison_counter"


@dataclass(frozen=True)
class Counts:
    """What one call of a pipeline took.

    Attributes:
        transformer_calls: that ran, wholly or in part; a batch counts once, every guidance branch
            counts.
        block_evaluations: of the transformer's blocks, likewise; None where it has none.
        flops: floating-point operations per picture of everything that the call ran, text encoders
            and decoding included, as PyTorch counts them.
    """

    transformer_calls: float
    block_evaluations: float | None
    flops: float


class CallCounts:
    """Counts while it is told to.

    Attributes:
        transformer: calls so far.
        blocks: evaluations of blocks so far.
        has_blocks: whether there are any to count.
    """

    def __init__(self, has_blocks: bool) -> None:
        self.transformer = 0
        self.blocks = 0
        self.has_blocks = has_blocks

    def count_call(self, *_: Any) -> None:
        """Count a call of a transformer."""
        self.transformer += 1


class _BlockCounter(ModelHook):
    """Counts a block's calls; registered before any other hook, where no skipped call comes."""

    def __init__(self, counts: CallCounts) -> None:
        super().__init__()
        self._counts = counts

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self._counts.blocks += 1
        return args, kwargs


def blocks_of(denoiser: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the modules that a transformer lists and runs one after the other."""
    lists = [child for child in denoiser.children() if isinstance(child, torch.nn.ModuleList)]
    return [block for each in lists for block in each]


@contextmanager
def counting_calls(pipe: DiffusionPipeline) -> Iterator[CallCounts]:
    """Count inside the block; to be entered before any method is switched on."""
    denoisers = find_denoisers(pipe)
    blocks = [block for denoiser in denoisers for block in blocks_of(denoiser)]
    counts = CallCounts(bool(blocks))
    with ExitStack() as stack:
        for denoiser in denoisers:
            # Not on its forward, in whose place cache-dit puts one of its own.
            stack.callback(denoiser.register_forward_pre_hook(counts.count_call).remove)
        for block in blocks:
            registry = HookRegistry.check_if_exists_or_initialize(block)
            registry.register_hook(_BlockCounter(counts), COUNTER_HOOK)
            stack.callback(registry.remove_hook, COUNTER_HOOK, recurse=False)
        yield counts


def flop_counter() -> FlopCounterMode:
    """Return a counter to be entered around a call; it knows attention on the CPU as well."""
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={on_cpu: _attention_flops})


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))
