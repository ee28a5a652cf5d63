"""A pipeline's twin, on which cache-dit puts its cache: the pipeline's own modules stay untouched.

cache-dit puts its cache on a transformer and on a pipeline's class, where all that share them
would get it. So it is given twins: objects of their own that hold the very same weights and blocks.
Within the pipeline's call, and there alone, the transformer runs its twin's forward in the place of
its own; what others have put around that (offloading, casting, diffusers' caches) stays around it.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from inspect import signature
from threading import get_ident
from typing import TYPE_CHECKING, Any

from torch._dynamo.exc import Unsupported

from otcache_plugin import cache_dit_originals
from otcache_plugin.errors import ExecutionError, PipelineError
from otcache_plugin.executors.twins import (
    CACHE_DITS_MARKS,
    in_place_of_forward,
    twin_of_transformer,
    uncompiled,
)
from otcache_plugin.pipelines.attaching import former_class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from diffusers import DiffusionPipeline


@contextmanager
def unannounced(level: int = logging.INFO) -> Iterator[None]:
    """Keep cache-dit from telling at every call what it puts its cache on.

    Args:
        level: up to which this thread's messages are kept back.
    """
    thread = get_ident()

    def is_told(record: logging.LogRecord) -> bool:
        return record.levelno > level or record.thread != thread

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
        self._module = uncompiled(pipe.transformer)
        self._transformer = twin_of_transformer(self._module)
        former = former_class(pipe)
        own_class = type(former.__name__, (former,), {"__call__": _call, "_is_cached": False})
        self._pipe: Any = object.__new__(own_class)
        self._pipe.__dict__.update(vars(pipe), transformer=self._transformer)
        for name in CACHE_DITS_MARKS:
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
        if uncompiled(module) is not self._module:
            raise ExecutionError(
                "the pipeline's transformer was replaced during its call, which executor='blocks' "
                "cannot follow. Set pipe.transformer before the call."
            )

        try:
            with in_place_of_forward(self._module, self._transformer.forward, self):
                return module(*args, **kwargs)
        except Unsupported as error:
            raise ExecutionError(
                "the transformer is compiled into one graph (fullgraph=True), in which cache-dit "
                "cannot decide. Compile it without fullgraph, or by its blocks "
                "(compile_repeated_blocks), or use executor='velocity'."
            ) from error

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


def _call(self: Any, function: Callable[[], Any]) -> Any:
    """Stand in for a pipeline's `__call__`, around which cache-dit makes its contexts."""
    return function()
