"""Counting what a run takes: calls of the transformer that really ran, and steps that had one."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from diffusers.hooks import HookRegistry, ModelHook

from otcache_plugin.evaluation.outputs import generate_outputs
from otcache_plugin.pipelines.method_hook import MethodHook
from otcache_plugin.pipelines.parts import find_denoisers, find_scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from diffusers import DiffusionPipeline

    from otcache_plugin.models.setups import ModelSetup

COUNTER_HOOK = "otcache_call_counter"


class CallCounter(ModelHook):
    """Counts the calls of a transformer that really run, and the steps that they are for.

    A call that an executor answers does not reach the module, whose hook this is.

    Attributes:
        calls: of the transformer ahead of each step of the scheduler that had any; a batch counts
            once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []
        self._in_step = 0

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        self._in_step += 1
        return args, kwargs

    def end_step(self) -> None:
        """Take note of the step that the scheduler takes, if it was computed."""
        if self._in_step:
            self.calls.append(self._in_step)
        self._in_step = 0


def calls_per_step(setup: ModelSetup) -> int:
    """Make a step, and return the transformer's calls in it: 2 where guidance is a second call."""
    steps = {"num_inference_steps": 1}
    with count_transformer_calls(setup.pipe) as counter:
        generate_outputs(
            setup.pipe,
            setup.calibration_pairs(1, 0),
            {**setup.call_arguments, **steps},
            spaces=frozenset({"latents"}),
        )
    return counter.calls[0]


@contextmanager
def count_transformer_calls(pipe: DiffusionPipeline) -> Iterator[CallCounter]:
    """Count inside the block."""
    counter = CallCounter()

    def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        counter.end_step()
        return original(*args, **kwargs)

    registries = [HookRegistry.check_if_exists_or_initialize(each) for each in find_denoisers(pipe)]
    with ExitStack() as stack:
        stack.callback(MethodHook(find_scheduler(pipe), "step", step).remove)
        for registry in registries:
            registry.register_hook(counter, COUNTER_HOOK)
            stack.callback(registry.remove_hook, COUNTER_HOOK, recurse=False)
        yield counter
