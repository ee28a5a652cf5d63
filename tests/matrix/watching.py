"""What a pipeline really does in a run: forwards of its parts, step by step."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from otcache_plugin.pipelines.method_hook import MethodHook


@dataclass
class Watched:
    """Forwards of modules during one run.

    Attributes:
        steps: per step, the forwards of each watched part before its `scheduler.step`.
        inner: forwards of everything inside the parts, in the whole run.
    """

    steps: list[Counter[str]] = field(default_factory=list)
    inner: Counter[str] = field(default_factory=Counter)
    _open: Counter[str] = field(default_factory=Counter)

    def total(self) -> Counter[str]:
        """Forwards of each part in the whole run."""
        return sum(self.steps, Counter())

    def at(self, computed: tuple[int, ...]) -> Counter[str]:
        """Forwards of each part at some steps."""
        return sum((self.steps[step] for step in computed), Counter())


@contextmanager
def watch(pipe: Any) -> Iterator[Watched]:
    """Watch a pipeline's run; a part is whatever its components hold and its steps may call."""
    watched = Watched()

    def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        watched.steps.append(watched._open)
        watched._open = Counter()
        return result

    with ExitStack() as stack:
        for name, part in pipe.components.items():
            if isinstance(part, torch.nn.Module) and "vae" not in name:
                _count(stack, part, name, watched)
        hook = MethodHook(pipe.scheduler, "step", step)
        stack.callback(hook.remove)
        yield watched


def _count(stack: ExitStack, part: torch.nn.Module, name: str, watched: Watched) -> None:
    def count_in(counter: Callable[[], Counter[str]], key: str) -> Callable[..., None]:
        def add(*_: Any) -> None:
            counter()[key] += 1

        return add

    outer = part.register_forward_pre_hook(count_in(lambda: watched._open, name))
    stack.callback(outer.remove)
    for path, inner in part.named_modules():
        if path:
            hook = inner.register_forward_pre_hook(
                count_in(lambda: watched.inner, f"{name}.{path}")
            )
            stack.callback(hook.remove)


class Clock:
    """Which step a run is at, and which call of the transformer in it."""

    def __init__(self, computed: tuple[int, ...]) -> None:
        self._computed = computed
        self._step = 0
        self.call = -1

    @property
    def computing(self) -> bool:
        """Whether the step at hand is computed."""
        return self._step in self._computed

    @contextmanager
    def watching(self, pipe: Any) -> Iterator[None]:
        """Follow a pipeline's run."""

        def begin_call(*_: Any) -> None:
            self.call += 1

        def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if self.call >= 0:  # Cosmos 1 takes a step twice
                self._step, self.call = self._step + 1, -1
            return original(*args, **kwargs)

        handle = pipe.transformer.register_forward_pre_hook(begin_call)
        hook = MethodHook(pipe.scheduler, "step", step)
        try:
            yield
        finally:
            hook.remove()
            handle.remove()


def run(pipe: Any, arguments: dict[str, Any], steps: int) -> torch.Tensor:
    """Run a pipeline from seed 0; gives its latents, sound's too, or what it gives instead."""
    usual = {
        "num_inference_steps": steps,
        "generator": torch.Generator().manual_seed(0),
        "output_type": "latent",
    }
    parameters = inspect.signature(type(pipe).__call__).parameters
    taken = {
        name: value for name, value in usual.items() if name in parameters or "kwargs" in parameters
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)  # some encode pictures without the generator
        output = pipe(**{**taken, **arguments})
    latents, sound = tensor_of(output[0]), getattr(output, "audio", None)
    return latents if sound is None else torch.cat([latents.flatten(), tensor_of(sound).flatten()])


def tensor_of(output: Any) -> torch.Tensor:
    """The tensor of an output, which may be a list of several."""
    if isinstance(output, torch.Tensor):
        return output
    return torch.stack([torch.as_tensor(each) for each in output])


class CutShortError(Exception):
    """Raised in the middle of a run."""


@contextmanager
def cut_short(pipe: Any, part: str, forward: int) -> Iterator[None]:
    """Have a forward of a part raise CutShortError."""
    seen = 0

    def raise_at(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == forward:
            raise CutShortError

    handle = pipe.components[part].register_forward_pre_hook(raise_at)
    try:
        yield
    finally:
        handle.remove()
