"""Counting what a run takes: calls of the transformer that really ran, and steps that had one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from diffusers.hooks import HookRegistry, ModelHook

from otcache_plugin.pipelines.method_hook import MethodHook
from otcache_plugin.pipelines.parts import find_denoisers, find_scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from diffusers import DiffusionPipeline

COUNTER_HOOK = "otcache_call_counter"


class CallCounter(ModelHook):
    """Counts the calls of a transformer that really run, and the steps that they are for.

    Registered before any executor's hook it sits inside of it, where no short-circuited call comes.

    Attributes:
        calls: of the transformer; a batch counts once.
        steps: of the scheduler that at least one of them came before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.steps = 0
        self._called = False

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        self._called = True
        return args, kwargs

    def end_step(self) -> None:
        """Count the step that the scheduler takes, if it was computed."""
        self.steps += self._called
        self._called = False


@contextmanager
def count_transformer_calls(pipe: DiffusionPipeline) -> Iterator[CallCounter]:
    """Count inside the block."""
    counter = CallCounter()

    def step(*args: Any, **kwargs: Any) -> Any:
        counter.end_step()
        return hook.original(*args, **kwargs)

    registries = [HookRegistry.check_if_exists_or_initialize(each) for each in find_denoisers(pipe)]
    hook = MethodHook(find_scheduler(pipe), "step", step)
    for registry in registries:
        registry.register_hook(counter, COUNTER_HOOK)
    try:
        yield counter
    finally:
        hook.remove()
        for registry in registries:
            registry.remove_hook(COUNTER_HOOK, recurse=False)
