"""The lists of blocks of a pipeline's transformer, and what goes into a block and comes out.

cache-dit knows them, by the name of the pipeline's class.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from otcache_plugin.errors import PipelineError
from otcache_plugin.executors.cache_dit_blocks import (
    block_adapter,
    is_known,
    listed,
    misfit,
    returned_names,
)
from otcache_plugin.executors.twins import uncompiled
from otcache_plugin.pipelines.parts import FEEDERS, require_one_denoiser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffusers import DiffusionPipeline

REMEDY = "Use a policy that gives a schedule, such as policy='uniform'"


@dataclass(frozen=True)
class BlockList:
    """One list of blocks, which the transformer runs one after the other.

    Attributes:
        name: of the transformer's attribute that holds it.
        length: how many blocks there are.
        returned: what a block returns, by the names of its arguments.
    """

    name: str
    length: int
    returned: tuple[str, ...]

    def hidden_of(self, output: Any) -> torch.Tensor:
        """Return the hidden states among what a block has returned."""
        found: torch.Tensor = (
            output if len(self.returned) == 1 else output[self.returned.index("hidden_states")]
        )
        return found

    def output(self, hidden: torch.Tensor, encoder: Any) -> Any:
        """Return what a block would that gave these hidden states, and left the others alone."""
        values = {"hidden_states": hidden, "encoder_hidden_states": encoder}
        if len(self.returned) == 1:
            return hidden
        return tuple(values[name] for name in self.returned)


def hidden_and_encoder(
    block: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, Any]:
    """Return the hidden states that a block is called with, and the encoder's, if any."""
    kind: Any = type(block)
    names = _parameters(kind)
    given = dict(zip(names, args, strict=False)) | kwargs
    encoder = "encoder_hidden_states"
    return given[names[0]], given.get(encoder, given.get(names[1]))


@cache
def _parameters(block: type[torch.nn.Module]) -> tuple[str, ...]:
    """Return the names of the arguments of a block's class; the first are its hidden states."""
    _, *names = inspect.signature(block.forward).parameters
    return (*names, "")


def find_block_lists(pipe: DiffusionPipeline) -> tuple[BlockList, ...]:
    """Return the lists of blocks of a pipeline's transformer, in the order in which they run.

    Raises:
        PipelineError: cache-dit knows none, or takes them for others, or gives the transformer
            another forward to work on them; the pipeline has two transformers, or a ControlNet,
            which would run at every step.
    """
    name = type(pipe).__name__
    if not is_known(pipe):
        problem = "cache-dit knows no blocks of this pipeline, whose features would be observed"
        raise PipelineError("pipe_or_adapter", name, problem, REMEDY)
    require_one_denoiser(pipe, "the features of two transformers cannot be compared", REMEDY)
    for part in FEEDERS:
        feeder = getattr(pipe, part, None)
        if feeder is not None:
            problem = "it runs before the transformer's features can be seen, so at every step"
            raise PipelineError(part, type(feeder).__name__, problem, REMEDY)
    transformer = uncompiled(pipe.transformer)
    unfit = misfit(pipe)
    if unfit is not None:
        raise PipelineError("transformer", type(transformer).__name__, unfit, REMEDY)
    adapter = block_adapter(pipe)
    found = [
        each
        for blocks, pattern in zip(
            listed(adapter.blocks), listed(adapter.forward_pattern), strict=True
        )
        for each in _lists(transformer, [*blocks], pattern)
    ]
    if adapter.patch_functor is not None and not all(
        _returns_as_said(transformer, each) for each in found
    ):
        problem = "cache-dit runs its blocks in a forward of its own, which nothing else can do"
        raise PipelineError("transformer", type(transformer).__name__, problem, REMEDY)
    return tuple(found)


def _lists(
    transformer: torch.nn.Module, blocks: list[torch.nn.Module], pattern: Any
) -> Iterator[BlockList]:
    """Yield the transformer's own lists that an adapter's list of blocks is made of."""
    while blocks:
        for name, child in transformer.named_children():
            own = [*child] if isinstance(child, torch.nn.ModuleList) else []
            same = all(one is other for one, other in zip(own, blocks, strict=False))
            if 0 < len(own) <= len(blocks) and same and {*pattern.Out} <= {*pattern.In}:
                yield BlockList(name, len(own), pattern.Out)
                blocks = blocks[len(own) :]
                break
        else:
            problem = "what cache-dit takes for its blocks are not lists of its own"
            raise PipelineError("transformer", type(transformer).__name__, problem, REMEDY)


def _returns_as_said(transformer: torch.nn.Module, block_list: BlockList) -> bool:
    """Return whether the blocks of a list give by themselves what they are said to."""
    classes = {type(block) for block in getattr(transformer, block_list.name)}
    return all(returned_names(each.forward) == block_list.returned for each in classes)
