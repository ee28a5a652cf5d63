"""What a run with rested blocks has to give, worked out without the executors.

All blocks run, at every step; what the last one of each list gives at a cached step is thrown away,
and what the lists' residuals come to is put in its place. Each of a step's calls of the transformer
has residuals of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from cache_dit.caching.block_adapters import BlockAdapterRegister

from matrix.watching import Clock, Watched, run


@dataclass(frozen=True)
class BlockList:
    """A list of blocks, of which some rested at cached steps.

    Attributes:
        blocks: all of them.
        rested: forwards of a full run that were left out.
        continues: whether the first one rested as well, as what the list before began goes on.
    """

    blocks: tuple[torch.nn.Module, ...]
    rested: int
    continues: bool


def rested_lists(pipe: Any, full: Watched, seen: Watched, share: float) -> list[BlockList]:
    """The lists in which blocks rested, in the order in which they run.

    Args:
        pipe: the pipeline.
        full: its full run.
        seen: the run in which they rested.
        share: of the steps that were computed, to which their forwards have to come.
    """
    order = list(full.inner)
    found: dict[str, BlockList] = {}
    for name, module in pipe.transformer.named_modules():
        path = f"transformer.{name}"
        within = any(path.startswith(f"{outer}.") for outer in found)
        if within or not isinstance(module, torch.nn.ModuleList):
            continue
        pairs = [(full.inner[each], seen.inner[each]) for each in _paths(path, module)]
        rested = [(before, now) for before, now in pairs if now < before]
        if rested:
            assert all(now == before * share for before, now in rested), f"{path}: {pairs}"
            left_out = sum(before - now for before, now in rested)
            before, now = pairs[0]
            found[path] = BlockList(tuple(module), left_out, now < before)
    return [found[path] for path in sorted(found, key=lambda each: order.index(f"{each}.0"))]


def _paths(path: str, blocks: torch.nn.ModuleList) -> list[str]:
    return [f"{path}.{number}" for number in range(len(blocks))]


class ReusedLists:
    """What cache-dit's cache makes of lists of blocks.

    The first block of each runs at every step; whatever the others have added to what that one
    gave, to the text's states too, is added again. FLUX's two lists are one to cache-dit.

    Args:
        lists: of the blocks.
        computed: the steps to compute.
    """

    def __init__(self, lists: list[BlockList], computed: tuple[int, ...]) -> None:
        self._ends: list[list[torch.nn.Module]] = []
        for each in lists:
            if each.continues:
                self._ends[-1][1] = each.blocks[-1]
            else:
                self._ends.append([each.blocks[0], each.blocks[-1]])
        self._clock = Clock(computed)
        self._starts: dict[int, list[Any]] = {}
        self._residuals: dict[tuple[int, int], list[Any]] = {}

    def run(self, pipe: Any, arguments: dict[str, Any], steps: int) -> torch.Tensor:
        """Run a pipeline that has no policy; what cache-dit takes for blocks of it, stays with it.

        To some transformers it gives a forward of its own: a block of WanVACE's has the control in
        it, too.
        """
        BlockAdapterRegister.get_adapter(pipe)
        with ExitStack() as stack:
            stack.enter_context(self._clock.watching(pipe))
            for index, (first, last) in enumerate(self._ends):
                for block, hook in ((first, self._begin), (last, self._end)):
                    handle = block.register_forward_hook(partial(hook, index))
                    stack.callback(handle.remove)
            return run(pipe, arguments, steps)

    def _begin(self, index: int, _: Any, __: Any, output: Any) -> None:
        self._starts[index] = tensors(output)

    def _end(self, index: int, _: Any, __: Any, output: Any) -> Any:
        starts, key = self._starts[index], (index, self._clock.call)
        if self._clock.computing:
            ends = tensors(output)
            self._residuals[key] = [
                None if end is None else end - start
                for end, start in zip(ends, starts, strict=True)
            ]
            return output
        found = [
            None if residual is None else residual + start
            for residual, start in zip(self._residuals[key], starts, strict=True)
        ]
        return found[0] if isinstance(output, torch.Tensor) else tuple(found)


class ProbedLists:
    """What TeaCache and DiCache make of lists of blocks, by their papers.

    The text's states stay as they are. What a list has added to its hidden states is added again;
    by DiCache, extrapolated from the last two times, as far as what the first block adds has gone.

    Args:
        lists: of the blocks.
        computed: the steps to compute.
        depth: blocks that run at every step, 0 or 1.
        look_back: computed steps to estimate from, 1 or 2.
    """

    def __init__(
        self, lists: list[BlockList], computed: tuple[int, ...], depth: int, look_back: int
    ) -> None:
        self._lists, self._depth, self._look_back = lists, depth, look_back
        self._clock = Clock(computed)
        self._starts: dict[int, tuple[torch.Tensor, Any]] = {}
        self._residuals: defaultdict[tuple[int, int], list[torch.Tensor]] = defaultdict(list)
        self._probes: defaultdict[int, list[torch.Tensor]] = defaultdict(list)
        self._gain: Any = None

    def run(self, pipe: Any, arguments: dict[str, Any], steps: int) -> torch.Tensor:
        """Run a pipeline that has no policy."""
        with ExitStack() as stack:
            stack.enter_context(self._clock.watching(pipe))
            for index, each in enumerate(self._lists):
                begin: Callable[..., Any] = partial(self._begin, index)
                first, last = each.blocks[0], each.blocks[-1]
                stack.callback(first.register_forward_pre_hook(begin, with_kwargs=True).remove)
                if index == 0 and self._depth:
                    stack.callback(first.register_forward_hook(self._probe).remove)
                stack.callback(last.register_forward_hook(partial(self._end, index)).remove)
            return run(pipe, arguments, steps)

    def _begin(self, index: int, _: Any, args: Any, kwargs: Any) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        encoder = kwargs.get("encoder_hidden_states", args[1] if len(args) > 1 else None)
        self._starts[index] = hidden, encoder

    def _probe(self, _: Any, __: Any, output: Any) -> None:
        start, encoder = self._starts[0]
        hidden, others = parted(output, start)
        self._starts[0] = start, others[0] if others else encoder
        added, probes = hidden - start, self._probes[self._clock.call]
        if self._clock.computing:
            probes.append(added)
        elif len(probes) > 1:
            before, last = probes[-2:]
            ratio = (added - before).abs().mean() / (last - before).abs().mean()
            self._gain = ratio.clamp(1.0, 1.5)

    def _end(self, index: int, _: Any, __: Any, output: Any) -> Any:
        start, encoder = self._starts[index]
        residuals = self._residuals[index, self._clock.call]
        hidden, _others = parted(output, start)
        if self._clock.computing:
            residuals.append(hidden - start)
            return output
        added = residuals[-1]
        if self._look_back == 2 and len(residuals) > 1:
            added = residuals[-2] + self._gain * (residuals[-1] - residuals[-2])
        if isinstance(output, torch.Tensor):
            return start + added
        return tuple(start + added if each is hidden else encoder for each in output)


def tensors(output: Any) -> list[Any]:
    """The tensors that a block gives; Stable Diffusion 3's last one has None for the text's."""
    return [output] if isinstance(output, torch.Tensor) else list(output)


def parted(output: Any, start: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
    """The hidden states that a block gives, which are of the shape that it took, and the others."""
    given = tensors(output)
    (hidden,) = [each for each in given if each is not None and each.shape == start.shape]
    return hidden, [each for each in given if each is not hidden]
