"""Twins of modules: objects of their own that hold the very same weights.

What is to be done to the blocks of a transformer is done to its twin's, so that whoever shares the
transformer sees nothing of it.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch

from otcache_plugin.errors import PipelineError
from otcache_plugin.pipelines.method_hook import MethodHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AROUND_FORWARD = ("forward", "_old_forward", "_hf_hook", "_diffusers_hook", "_compiled_call_impl")
"""What accelerate, diffusers and torch put on a module around its forward."""

CACHE_DITS_MARKS = ("_context_manager", "_context_names", "_context_kwargs", "_is_cached")
"""What cache-dit puts on a pipeline and its transformer."""

_answering: ContextVar[object] = ContextVar("otcache_twin", default=None)


@contextmanager
def in_place_of_forward(
    module: torch.nn.Module, forward: Callable[..., Any], owner: object
) -> Iterator[None]:
    """Have another forward in the place of a module's own, inside the block and in this thread.

    What others have put around that (offloading, casting, diffusers' caches) stays around it.

    Args:
        module: a transformer.
        forward: of its twin.
        owner: of the twin; one block of an owner lies in no other.
    """

    def answer(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Other threads may call the module now.
        own = _answering.get() is owner
        return (forward if own else original)(*args, **kwargs)

    hook = MethodHook(*own_forward_slot(module), answer)
    token = _answering.set(owner)
    try:
        yield
    finally:
        _answering.reset(token)
        hook.remove()


def own_forward_slot(module: torch.nn.Module) -> tuple[Any, str]:
    """Return where a module's own forward is found, below what others have put around it.

    Returns:
        The object that has it as an attribute, and the attribute's name.

    Raises:
        PipelineError: it is nowhere to be found.
    """
    placed = vars(module).get("forward")
    # Another thread's hook is gone by the next look, so nothing is concluded from two.
    if placed is None or _is_own_forward(placed, module):
        return module, "forward"
    # accelerate's, cache-dit's and diffusers' names for what they have put something around.
    places = [(module, name) for name in ("_old_forward", "_original_forward")]
    registry = vars(module).get("_diffusers_hook")
    references = [] if registry is None else [hook.fn_ref for hook in registry.hooks.values()]
    places += [(each, name) for each in references for name in ("forward", "original_forward")]
    for owner, name in places:
        if _is_own_forward(vars(owner).get(name), module):
            return owner, name
    raise PipelineError(
        "transformer.forward",
        placed,
        "the transformer's own forward was replaced, so nothing can be done to its blocks",
        "Take that off, or use executor='velocity'",
    )


def own_forward(module: torch.nn.Module) -> Any:
    """Return a module's own forward."""
    owner, name = own_forward_slot(module)
    return _beneath_hooks(getattr(owner, name))


def _is_own_forward(method: Any, module: torch.nn.Module) -> bool:
    """Return whether a method is a module's own, beneath the hooks of other threads."""
    found = _beneath_hooks(method)
    return isinstance(found, MethodType) and found.__self__ is module


def _beneath_hooks(method: Any) -> Any:
    """Return what hooks of calls under way in other threads stand in for."""
    while isinstance(method, MethodHook):
        method = method.original
    return method


def uncompiled(module: Any) -> Any:
    """Return the module itself, where `torch.compile` has given another for it."""
    return getattr(module, "_orig_mod", module)


def twin_of_transformer(transformer: torch.nn.Module) -> Any:
    """Return a twin, its own forward alone on it, whose lists of blocks and blocks are twins."""
    twin = twin_of(transformer)
    for name in (*AROUND_FORWARD, *CACHE_DITS_MARKS):
        vars(twin).pop(name, None)
    twin.forward = MethodType(own_forward(transformer).__func__, twin)
    for name, child in transformer._modules.items():
        if isinstance(child, torch.nn.ModuleList):
            blocks = twin._modules[name] = twin_of(child)
            blocks._modules.update({key: _twin_of_block(it) for key, it in child._modules.items()})
    return twin


def _twin_of_block(block: torch.nn.Module | None) -> Any:
    """Return a twin of a block, and of the block in it where that is all that it holds.

    HiDream's blocks are such, and cache-dit marks both. What is in other blocks stays the very
    same, because pipelines may change it in their call: perturbed attention sets its processors.
    """
    twin = twin_of(block)
    if block is not None and len(block._modules) == 1 and not block._parameters:
        twin._modules.update({key: twin_of(inner) for key, inner in block._modules.items()})
    return twin


def twin_of(module: torch.nn.Module | None) -> Any:
    """Return a twin, None of none."""
    if module is None:
        return None
    twin = object.__new__(type(module))
    vars(twin).update(vars(module), _modules=dict(module._modules))
    return twin
