"""A pipeline's twin, on which cache-dit puts its cache: the pipeline's own modules stay untouched.

cache-dit puts its cache on a transformer and on a pipeline's class, where all that share them
would get it. So it is given twins: objects of their own that hold the very same weights and blocks.
Within the pipeline's call, and there alone, the transformer runs its twin's forward in the place of
its own; what others have put around that (offloading, casting, diffusers' caches) stays around it.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import signature
from threading import get_ident
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch._dynamo.exc import Unsupported

from otcache_plugin import cache_dit_originals
from otcache_plugin.errors import ExecutionError, PipelineError
from otcache_plugin.pipelines.attaching import former_class
from otcache_plugin.pipelines.method_hook import MethodHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from diffusers import DiffusionPipeline

AROUND_FORWARD = ("forward", "_old_forward", "_hf_hook", "_diffusers_hook", "_compiled_call_impl")
"""What accelerate, diffusers and torch put on a module around its forward."""

CACHE_DITS_OWN = ("_context_manager", "_context_names", "_context_kwargs", "_is_cached")
"""What cache-dit puts on a pipeline and its transformer."""

_answering: ContextVar[CachedTwin | None] = ContextVar("otcache_cached_twin", default=None)


@contextmanager
def unannounced() -> Iterator[None]:
    """Keep cache-dit from telling at every call what it puts its cache on."""
    thread = get_ident()

    def is_told(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or record.thread != thread

    known = list(logging.root.manager.loggerDict)
    loggers = [logging.getLogger(name) for name in known if name.startswith("cache_dit.")]
    for logger in loggers:
        logger.addFilter(is_told)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_told)


class CachedTwin:
    """The twin of a pipeline of one transformer, with cache-dit's cache on it.

    Args:
        pipe: the pipeline, which is not changed.
        arguments: of `cache_dit.enable_cache`, its `cache_config` among them.

    Raises:
        PipelineError: something has replaced the transformer's forward, so that it has no own one;
            or cache-dit knows other pipelines of that name, but not this one's transformer, or
            an older one, of fewer arguments.
    """

    def __init__(self, pipe: DiffusionPipeline, arguments: Mapping[str, Any]) -> None:
        self._module = _uncompiled(pipe.transformer)
        self._transformer = _twin_of_transformer(self._module)
        former = former_class(pipe)
        own_class = type(former.__name__, (former,), {"__call__": _call, "_is_cached": False})
        self._pipe: Any = object.__new__(own_class)
        self._pipe.__dict__.update(vars(pipe), transformer=self._transformer)
        for name in CACHE_DITS_OWN:
            self._pipe.__dict__.pop(name, None)
        try:
            cache_dit_originals.original("enable_cache")(self._pipe, **arguments)
        except AssertionError as error:
            # cache-dit goes by the pipeline's name, and then asserts what its parts are.
            raise PipelineError(
                "transformer",
                type(self._module).__name__,
                f"cache-dit cannot put its cache on a {type(pipe).__name__} of it: {error}",
                "Use executor='velocity'",
            ) from error
        self._refuse_lost_arguments()

    def _refuse_lost_arguments(self) -> None:
        """Raise PipelineError where cache-dit's own forward takes less than the transformer's."""
        taken = signature(self._transformer._original_forward).parameters
        _, *own = signature(type(self._module).forward).parameters  # the first is self
        lost = [name for name in own if name not in taken]
        if lost and all(each.kind is not each.VAR_KEYWORD for each in taken.values()):
            raise PipelineError(
                "transformer",
                type(self._module).__name__,
                f"the forward that cache-dit puts in the place of its own takes no {lost[0]}",
                "Use executor='velocity'",
            )

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function within cache-dit's contexts, made anew."""
        return self._pipe(function)

    def renew(self) -> None:
        """Make cache-dit's contexts anew, for another run in the same call."""
        self.run(lambda: None)

    def forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the transformer, the twin's forward in the place of its own."""
        if _uncompiled(module) is not self._module:
            raise ExecutionError(
                "the pipeline's transformer was replaced during its call, which executor='blocks' "
                "cannot follow. Set pipe.transformer before the call."
            )

        def answer(*args: Any, **kwargs: Any) -> Any:
            # Other threads may call the transformer now.
            own = _answering.get() is self
            return (self._transformer.forward if own else hook.original)(*args, **kwargs)

        hook = MethodHook(*own_forward_slot(self._module), answer)
        token = _answering.set(self)
        try:
            return module(*args, **kwargs)
        except Unsupported as error:
            raise ExecutionError(
                "the transformer is compiled into one graph (fullgraph=True), in which cache-dit "
                "cannot decide. Compile it without fullgraph, or by its blocks "
                "(compile_repeated_blocks), or use executor='velocity'."
            ) from error
        finally:
            _answering.reset(token)
            hook.remove()

    def contexts(self) -> list[Any]:
        """Return cache-dit's contexts; it has no public way to them, and they are made anew."""
        return list(self._pipe._context_manager._cached_context_manager.values())

    def statistics(self) -> list[Any]:
        """Return what cache-dit says of the last run."""
        statistics: list[Any] = cache_dit_originals.original("summary")(self._pipe, logging=False)
        return statistics

    def clear(self) -> None:
        """Drop the tensors that cache-dit keeps."""
        self._pipe._context_manager.clear_contexts()


def own_forward_slot(module: torch.nn.Module) -> tuple[Any, str]:
    """Return where a module's own forward is found, below what others have put around it.

    Returns:
        The object that has it as an attribute, and the attribute's name.

    Raises:
        PipelineError: it is nowhere to be found.
    """
    if "forward" not in vars(module):
        return module, "forward"
    # accelerate's, cache-dit's and diffusers' names for what they have put something around.
    places = [(module, name) for name in ("forward", "_old_forward", "_original_forward")]
    registry = vars(module).get("_diffusers_hook")
    references = [] if registry is None else [hook.fn_ref for hook in registry.hooks.values()]
    places += [(each, name) for each in references for name in ("forward", "original_forward")]
    for owner, name in places:
        found = _beneath_hooks(vars(owner).get(name))
        if isinstance(found, MethodType) and found.__self__ is module:
            return owner, name
    raise PipelineError(
        "transformer.forward",
        vars(module)["forward"],
        "the transformer's own forward was replaced, so cache-dit's cache cannot be put in its "
        "place",
        "Take that off, or use executor='velocity'",
    )


def _own_forward(module: torch.nn.Module) -> Any:
    owner, name = own_forward_slot(module)
    return _beneath_hooks(getattr(owner, name))


def _beneath_hooks(method: Any) -> Any:
    """Return what hooks of calls under way in other threads stand in for."""
    while isinstance(method, MethodHook):
        method = method.original
    return method


def _call(self: Any, function: Callable[[], Any]) -> Any:
    """Stand in for a pipeline's `__call__`, around which cache-dit makes its contexts."""
    return function()


def _uncompiled(module: Any) -> Any:
    """Return the module itself, where `torch.compile` has given another for it."""
    return getattr(module, "_orig_mod", module)


def _twin_of_transformer(transformer: torch.nn.Module) -> Any:
    """Return a twin whose lists of blocks, and the blocks, are twins: cache-dit marks them."""
    twin = _twin(transformer)
    for name in (*AROUND_FORWARD, *CACHE_DITS_OWN):
        vars(twin).pop(name, None)
    twin.forward = MethodType(_own_forward(transformer).__func__, twin)
    for name, child in transformer._modules.items():
        if isinstance(child, torch.nn.ModuleList):
            blocks = twin._modules[name] = _twin(child)
            blocks._modules.update({key: _twin(block) for key, block in child._modules.items()})
    return twin


def _twin(module: torch.nn.Module | None) -> Any:
    if module is None:
        return None
    twin = object.__new__(type(module))
    vars(twin).update(vars(module), _modules=dict(module._modules))
    return twin
