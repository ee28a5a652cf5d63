"""A transformer's twin whose blocks are asked for: the transformer itself stays untouched."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from otcache_plugin.errors import ExecutionError, PipelineError
from otcache_plugin.executors.probe_run import Place
from otcache_plugin.executors.twins import (
    AROUND_FORWARD,
    in_place_of_forward,
    twin_of_transformer,
    uncompiled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from diffusers import DiffusionPipeline

    from otcache_plugin.executors.block_lists import BlockList
    from otcache_plugin.executors.probe_run import ProbedForward

AROUND_CALLS = ("_forward_hooks", "_forward_pre_hooks")
"""What torch calls around a module's forward; a block's own call has it, so its twin has not."""


def refuse_whole(pipe: DiffusionPipeline) -> None:
    """Raise PipelineError when a transformer cannot be run in part: compiled, split, cached."""
    transformer = pipe.transformer
    module = uncompiled(transformer)
    problem = remedy = ""
    if module is not transformer or vars(module).get("_compiled_call_impl") is not None:
        problem = "it is compiled as a whole, so its blocks cannot be left out"
        remedy = "Compile it by its blocks (compile_repeated_blocks)"
    elif getattr(module, "_is_parallelized", False) or getattr(module, "_parallel_config", None):
        problem = "it is split among several devices, each of which would decide by its part"
        remedy = "Run it on one device, or use a policy that gives a schedule"
    elif getattr(module, "is_cache_enabled", False):
        problem = "a cache of diffusers is enabled on it, which leaves out blocks as well"
        remedy = "Call transformer.disable_cache() first"
    if problem:
        raise PipelineError("transformer", type(module).__name__, problem, remedy)


class ProbedTwin:
    """The twin of a transformer, whose blocks go to a `ProbedForward`.

    Args:
        module: the transformer, which is not changed.
        lists: of its blocks.
    """

    def __init__(self, module: torch.nn.Module, lists: Sequence[BlockList]) -> None:
        self._module = module
        self._forward: ProbedForward | None = None
        self._transformer = twin_of_transformer(module)
        for index, block_list in enumerate(lists):
            originals = getattr(module, block_list.name)
            twins = getattr(self._transformer, block_list.name)
            for number, (twin, block) in enumerate(zip(twins, originals, strict=True)):
                for name in AROUND_FORWARD:
                    vars(twin).pop(name, None)
                vars(twin).update({name: type(vars(twin)[name])() for name in AROUND_CALLS})
                twin.forward = partial(self._block, Place(index, number), block)

    def _block(self, place: Place, block: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        assert self._forward is not None, "blocks are called within the transformer's call"
        return self._forward.block(place, block, args, kwargs)

    def call(self, forward: ProbedForward, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the transformer, its blocks being asked for.

        Raises:
            ExecutionError: it is another one.
        """
        if module is not self._module:
            raise ExecutionError(
                "the pipeline's transformer was replaced during its call, which executor='probe' "
                "cannot follow. Set pipe.transformer before the call."
            )
        self._forward = forward
        try:
            with in_place_of_forward(module, self._transformer.forward, self):
                return module(*args, **kwargs)
        finally:
            self._forward = None
