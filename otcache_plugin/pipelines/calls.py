"""Whose call is running: what an executor does belongs to one call of one pipeline.

While a pipeline with an activation runs, its call is known by a context variable, which no other
thread sees. What stands in for a part of the pipeline asks it at every use: within the pipeline's
own call the executor decides, anywhere else the part is used as if there were no executor.
"""

from __future__ import annotations

import functools
import weakref
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import wrapt
from diffusers import DiffusionPipeline, SchedulerMixin

from otcache_plugin.errors import ExecutionError
from otcache_plugin.pipelines.method_hook import MethodHook
from otcache_plugin.pipelines.parts import step_not_taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otcache_registry.finding.nearest import RunSetup

    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy

ACTIVATION = "_otcache_activation"
"""The attribute of a pipeline that holds what begins its calls."""

SCHEDULER_METHODS = ("set_timesteps", "step")


class Call:
    """What an executor makes of one call of a pipeline; this one leaves all as it is.

    Its methods are used within that call alone, by the thread that makes it: never for a sibling
    that shares a part, a callback, or a part that is used by hand. Every call has an object of its
    own, so what a run knows is kept here and dropped in `end`.
    """

    def run(self, pipeline_call: Callable[[], Any]) -> Any:
        """Make the pipeline's call; override to do something around it."""
        return pipeline_call()

    def set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Stand in for the scheduler's `set_timesteps`, where a run begins."""
        return original(*args, **kwargs)

    def denoise(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Stand in for a call of a denoiser."""
        return module(*args, **kwargs)

    def feed(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Stand in for a call of a part whose outputs only the denoiser uses: a ControlNet."""
        return module(*args, **kwargs)

    def step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Stand in for the scheduler's `step`."""
        return original(*args, **kwargs)

    def step_beside(
        self, scheduler: Any, original: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Stand in for the `step` of another scheduler, a copy or one beside: LTX-2's sound has."""
        return original(*args, **kwargs)

    def end(self) -> None:
        """Drop what the call held, however it ended; tensors above all."""


class BeginsCalls(Protocol):
    """Gives each call of a pipeline its object."""

    def begin(self, pipe: Any, setup: RunSetup) -> Call:
        """Return what is made of the call that begins, and says this of its runs."""
        ...


class OwnCall:
    """A pipeline's call under way.

    Args:
        pipe: the pipeline.
        activation: that began it.
        call: what is made of it.
    """

    def __init__(self, pipe: DiffusionPipeline, activation: BeginsCalls, call: Call) -> None:
        self.pipe, self.call = pipe, call
        self._activation = activation
        self._scheduler: Any = vars(pipe).get("scheduler")
        self._others = [
            part
            for part in vars(pipe).values()
            if isinstance(part, SchedulerMixin) and part is not self._scheduler
        ]
        self._stand_ins: dict[str, StandIn] = {}
        self._awaits_step = False
        self._copy_stepped = False

    def is_running(self) -> bool:
        """Return whether the caller is in this call, and the activation still on the pipeline."""
        return _running.get() is self and vars(self.pipe).get(ACTIVATION) is self._activation

    def stand_in(self, name: str, method: str, part: Any) -> StandIn:
        """Return what stands in for a part, the same one as long as the part is."""
        known = self._stand_ins.get(name)
        if known is None or known.__wrapped__ is not part:
            known = self._stand_ins[name] = StandIn(part, self, method)
        return known

    def require_same_scheduler(self) -> None:
        """Raise ExecutionError when the scheduler was replaced since the call began."""
        if vars(self.pipe).get("scheduler") is not self._scheduler:
            raise ExecutionError(
                "the pipeline's scheduler was replaced during its call, so its steps cannot be "
                "followed. Set pipe.scheduler before the call."
            )

    def run(self, pipeline_call: Callable[[], Any]) -> Any:
        """Make the call, and leave nothing behind."""
        with ExitStack() as stack:
            stack.callback(self._end)
            token = _running.set(self)
            stack.callback(_running.reset, token)
            for name in SCHEDULER_METHODS:
                stack.callback(self._hook(name).remove)
            for scheduler in self._others:
                stack.callback(self._hook_beside(scheduler).remove)
            result = self.call.run(pipeline_call)
            if self._awaits_step:
                raise step_not_taken()
            return result

    def denoise(self, part: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a denoiser, whose output the scheduler's step is to be given.

        Raises:
            ExecutionError: the one before was given to a copy of the scheduler.
        """
        if self._awaits_step and self._copy_stepped:
            raise step_not_taken()
        self._awaits_step, self._copy_stepped = True, False
        return self.call.denoise(part, *args, **kwargs)

    def feed(self, part: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a part that feeds the denoiser."""
        return self.call.feed(part, *args, **kwargs)

    def step_of_copy(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        """Take a step of a copy of the scheduler that was made in this call.

        It may be one beside the scheduler's own (LTX-2 denoises sound with a copy), or instead.
        """
        if not self.is_running():
            return method(*args, **kwargs)
        self._copy_stepped = True
        return self.call.step_beside(method.__self__, method, *args, **kwargs)

    def _hook(self, name: str) -> MethodHook:
        replacement = getattr(self.call, name)

        def method(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if not self.is_running():
                return original(*args, **kwargs)
            if name == "step":
                self._awaits_step = False
            return replacement(original, *args, **kwargs)

        of_copies = self._step_of_copy if name == "step" else None
        return MethodHook(self._scheduler, name, method, of_copies)

    def _hook_beside(self, scheduler: Any) -> MethodHook:
        def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if not self.is_running():
                return original(*args, **kwargs)
            return self.call.step_beside(scheduler, original, *args, **kwargs)

        return MethodHook(scheduler, "step", step)

    def _step_of_copy(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return what a copy of the scheduler has as `step`; one made elsewhere has its own."""
        return _StepOfCopy(weakref.ref(self), method) if self.is_running() else method

    def _end(self) -> None:
        self._stand_ins.clear()
        self.call.end()


_running: ContextVar[OwnCall | None] = ContextVar("otcache_own_call", default=None)


def own_call(pipe: DiffusionPipeline) -> OwnCall | None:
    """Return the call of a pipeline, or of one made of it, that the caller is in, or None."""
    running = _running.get()
    if running is None or not (running.pipe is pipe or pipe in inner_pipelines(running.pipe)):
        return None
    return running


def inner_pipelines(pipe: Any) -> list[DiffusionPipeline]:
    """Return the pipelines that a pipeline is made of."""
    return [each for each in vars(pipe).values() if isinstance(each, DiffusionPipeline)]


@contextmanager
def suspended() -> Iterator[None]:
    """Be outside of any call, as callbacks are."""
    token = _running.set(None)
    try:
        yield
    finally:
        _running.reset(token)


class StandIn(Proxy):
    """Looks like a part of a pipeline in all but its calls, about which the executor decides.

    Args:
        part: what it stands in for.
        own: the call it belongs to; outside of it, it is the part.
        method: of the executor's call that a call of the part goes to.
    """

    def __init__(self, part: Any, own: OwnCall, method: str) -> None:
        super().__init__(part)
        self._self_own = own
        self._self_method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the part, or what the executor makes of that."""
        own = self._self_own
        if not own.is_running():
            return self.__wrapped__(*args, **kwargs)
        own.require_same_scheduler()
        return getattr(own, self._self_method)(self.__wrapped__, *args, **kwargs)


class _StepOfCopy:
    """The `step` of a copy of the scheduler, about which the call that it was made in decides."""

    def __init__(self, own: weakref.ref[OwnCall], method: Any) -> None:
        self._own, self._method = own, method
        functools.update_wrapper(self, method, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take the step."""
        own = self._own()
        if own is None:
            return self._method(*args, **kwargs)
        return own.step_of_copy(self._method, *args, **kwargs)

    def __reduce__(self) -> Any:
        """Copy and pickle the method alone."""
        return getattr, (self._method.__self__, self._method.__name__)


class SuspendedCallback(Proxy):
    """A callback that is outside of the call which it is given to; of the same class as before."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        with suspended():
            return self.__wrapped__(*args, **kwargs)
