"""Putting an activation on one pipeline, and taking it off again.

The pipeline gets a class of its own, which differs from its former one in what its call does and
in what its parts look like during that call. Nothing is left on what it shares with others, and
what is made of it, a copy or another pipeline of its parts, is of the former class.
"""

from __future__ import annotations

import functools
import inspect
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from otcache_plugin.errors import PipelineError
from otcache_plugin.pipelines.call_arguments import run_setup
from otcache_plugin.pipelines.calls import (
    ACTIVATION,
    OwnCall,
    SuspendedCallback,
    inner_pipelines,
    own_call,
    suspended,
)
from otcache_plugin.pipelines.parts import DENOISERS, FEEDERS, called_by_hand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType

    from diffusers import DiffusionPipeline

    from otcache_plugin.pipelines.calls import BeginsCalls

STAND_INS: Mapping[str, str] = {
    **dict.fromkeys(DENOISERS, "denoise"),
    **dict.fromkeys(FEEDERS, "feed"),
}
"""By the attribute of a part, the method of a `Call` that its calls go to."""

FORMER_CLASS = "_otcache_former_class"
SAME = ("__module__", "__qualname__", "__doc__")


def attach(pipe: DiffusionPipeline, activation: BeginsCalls) -> None:
    """Have an activation begin every call of a pipeline from now on, in the place of any other.

    Pipelines that it is made of (VisualCloze's two) are part of its call when it calls them, and
    as they were when they are called by themselves.
    """
    plain = [
        each for each in (pipe, *inner_pipelines(pipe)) if FORMER_CLASS not in vars(type(each))
    ]
    # All are made before one is used: what cannot be given a class of its own stays as it is.
    for each, own in [(each, _own_class(type(each))) for each in plain]:
        each.__class__ = own
    vars(pipe)[ACTIVATION] = activation


def attachment(pipe: Any) -> Any:
    """Return the activation that is on a pipeline, None where there is none."""
    return getattr(pipe, "__dict__", {}).get(ACTIVATION)


def detach(pipe: Any) -> bool:
    """Take the activation off a pipeline, which is then as it was; False when none was on it."""
    if attachment(pipe) is None:
        return False
    del vars(pipe)[ACTIVATION]
    for each in (pipe, *inner_pipelines(pipe)):
        if attachment(each) is None:
            each.__class__ = former_class(each)
    return True


def former_class(pipe: Any) -> type[DiffusionPipeline]:
    """Return the class of a pipeline, that which it had before an activation was put on it."""
    former: type[DiffusionPipeline] = vars(type(pipe)).get(FORMER_CLASS, type(pipe))
    return former


@contextmanager
def attached(pipe: DiffusionPipeline, activation: BeginsCalls) -> Iterator[None]:
    """Have an activation begin every call of a pipeline inside the block.

    Raises:
        PipelineError: there is one on it already.
    """
    if attachment(pipe) is not None:
        raise PipelineError(
            "pipe",
            type(pipe).__name__,
            "a policy is enabled on it",
            "Call cache_dit.disable_cache(pipe) first",
        )
    attach(pipe, activation)
    try:
        yield
    finally:
        detach(pipe)


class _Part:
    """A part of a pipeline, as an attribute of the pipeline's own class."""

    def __init__(self, name: str, method: str) -> None:
        self._name, self._method = name, method

    def __get__(self, pipe: Any, owner: type | None = None) -> Any:
        if pipe is None:
            return self
        try:
            part = vars(pipe)[self._name]
        except KeyError:
            raise AttributeError(self._name) from None
        own = own_call(pipe)
        if own is None and attachment(pipe) is not None:
            _refuse_call_by_hand(pipe, sys._getframe(1).f_code)
        return part if own is None or part is None else own.stand_in(self._name, self._method, part)

    def __set__(self, pipe: Any, part: Any) -> None:
        vars(pipe)[self._name] = part

    def __delete__(self, pipe: Any) -> None:
        try:
            del vars(pipe)[self._name]
        except KeyError:
            raise AttributeError(self._name) from None


def _refuse_call_by_hand(pipe: DiffusionPipeline, reader: CodeType) -> None:
    """Raise ExecutionError where a part is read by a call of the pipeline that is not its own.

    Args:
        pipe: on which there is an activation.
        reader: the code that reads the part.
    """
    for cls in former_class(pipe).__mro__:
        method = vars(cls).get("__call__")
        if method is not None and inspect.unwrap(method).__code__ is reader:
            raise called_by_hand(cls.__name__)


def _own_class(former: type[DiffusionPipeline]) -> type[DiffusionPipeline]:
    """Return a class for one pipeline."""
    signature = inspect.signature(former.__call__)

    @functools.wraps(former.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        former_call = super(own, self).__call__
        activation = attachment(self)
        if activation is None:
            return former_call(*args, **kwargs)
        setup = run_setup(self, args, kwargs)
        args, kwargs = _suspending_callbacks(signature, args, kwargs)
        pipeline_call = functools.partial(former_call, *args, **kwargs)
        return OwnCall(self, activation, activation.begin(self, setup)).run(pipeline_call)

    def components(self: Any) -> dict[str, Any]:
        # Offloading looks for the modules here within the call.
        with suspended():
            return super(own, self).components  # type: ignore[no-any-return]

    metaclass: Any = type(former)
    own = metaclass(
        former.__name__,
        (former,),
        {
            **{name: getattr(former, name) for name in SAME},
            **{
                name: _Part(name, method)
                for name, method in STAND_INS.items()
                if not hasattr(former, name)
            },
            # What is made by the class has no activation, so it is of the former one.
            "__new__": lambda cls, *args, **kwargs: former(*args, **kwargs),
            "__call__": call,
            "__reduce_ex__": _reduced,
            "components": property(components, doc=former.components.__doc__),
            FORMER_CLASS: former,
        },
    )
    return cast("type[DiffusionPipeline]", own)


def _reduced(pipe: Any, protocol: Any) -> Any:
    """Return how to copy and pickle what a pipeline is without its activation."""
    plain = object.__new__(former_class(pipe))
    vars(plain).update({name: it for name, it in vars(pipe).items() if name != ACTIVATION})
    function, *rest = plain.__reduce_ex__(protocol)
    if getattr(function, "__name__", "") == "__newobj__":
        function = object.__new__  # pickle takes the other for one of its argument's own class
    return (function, *rest)


def _suspending_callbacks(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call, with callbacks that are outside of it."""
    names = list(signature.parameters)[1:]  # without self
    names += [""] * (len(args) - len(names))
    positional = tuple(_suspending(*each) for each in zip(names, args, strict=False))
    return positional, {name: _suspending(name, value) for name, value in kwargs.items()}


def _suspending(name: str, argument: Any) -> Any:
    is_callback = name.startswith("callback") and callable(argument)
    return SuspendedCallback(argument) if is_callback else argument
