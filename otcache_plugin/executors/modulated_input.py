"""The first block's input modulated by the time embedding: what its attention is called with.

It is got by running the block as far as its attention, and no further.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn

from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_processor import Attention

from otcache_plugin.errors import PipelineError
from otcache_plugin.executors.block_lists import REMEDY
from otcache_plugin.executors.twins import AROUND_FORWARD, own_forward, twin_of

if TYPE_CHECKING:
    import torch

OF_ATTENTION = (Attention, AttentionModuleMixin)

GROUP_OFFLOADING = "group_offloading"
"""What diffusers calls its hook."""


class _Reached(Exception):  # noqa: N818  # no error, but the way out of a block
    """The attention of a block is called."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class ModulatedInput:
    """Looks at what a block's attention is called with.

    Args:
        block: the first block of a transformer.

    Raises:
        PipelineError: it has no attention, or something that is done around it, such as bringing
            its weights to the device, is not done to a part of it.
    """

    def __init__(self, block: torch.nn.Module) -> None:
        name = type(block).__name__
        if not any(isinstance(module, OF_ATTENTION) for module in block.modules()):
            problem = "the first block has no attention of diffusers' classes to look at"
            raise PipelineError("transformer", name, problem, REMEDY)
        if _is_offloaded(block):
            problem = "the first block is offloaded as a whole, and is to run in part"
            remedy = "Offload by leaves or by models instead of by blocks"
            raise PipelineError("transformer", name, problem, remedy)
        self._twin = _stopping_at_attention(block)
        for each in AROUND_FORWARD:
            vars(self._twin).pop(each, None)
        self._twin.forward = MethodType(own_forward(block).__func__, self._twin)

    def of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        """Return what the attention is called with, in a call of the block with these arguments."""
        try:
            self._twin.forward(*args, **kwargs)
        except _Reached as reached:
            return reached.hidden
        raise AssertionError("a block with attention calls it")


def _is_offloaded(block: torch.nn.Module) -> bool:
    """Return whether accelerate or diffusers brings a block's weights to it when it is called."""
    registry = vars(block).get("_diffusers_hook")
    grouped = registry is not None and registry.get_hook(GROUP_OFFLOADING) is not None
    return grouped or "_hf_hook" in vars(block)


def _stopping_at_attention(module: torch.nn.Module) -> Any:
    """Return a twin that is left where its attention is called."""
    twin = twin_of(module)
    if isinstance(module, OF_ATTENTION):
        for each in AROUND_FORWARD:
            vars(twin).pop(each, None)
        twin.forward = _reach
        return twin
    for name, child in module.named_children():
        if any(isinstance(each, OF_ATTENTION) for each in child.modules()):
            twin._modules[name] = _stopping_at_attention(child)
    return twin


def _reach(*args: Any, **kwargs: Any) -> NoReturn:
    raise _Reached(args[0] if args else kwargs["hidden_states"])
