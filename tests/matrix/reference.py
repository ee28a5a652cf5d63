"""What an accelerated run has to give, worked out without the executor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from diffusers import SchedulerMixin
from reference_runs import Reference

from matrix.watching import Clock, run
from otcache_plugin.pipelines.method_hook import MethodHook


def reference_run(
    pipe: Any,
    arguments: dict[str, Any],
    steps: int,
    computed: tuple[int, ...],
    look_backs: tuple[int, ...] | None,
) -> torch.Tensor:
    """Run an untouched pipeline, and replace what its schedulers are given at the other steps.

    There the transformer's last outputs are given again, because guidance may remember what it was
    given (ACE-Step's momentum).

    Args:
        pipe: the pipeline, whose transformer runs at every step.
        arguments: of its call.
        steps: of its call.
        computed: the steps whose velocities stay.
        look_backs: of the estimate by the average velocity; None for the last velocity again.

    Returns:
        The latents.
    """

    def stepping(method: Callable[..., Any]) -> Callable[..., Any]:
        """What takes the steps of one scheduler, a copy's too, in the place of its method."""
        scheduler = method.__self__  # type: ignore[attr-defined]
        reference: Reference | None = None

        def step(
            velocity: torch.Tensor, timestep: Any, sample: torch.Tensor, *a: Any, **kw: Any
        ) -> Any:
            nonlocal reference
            if reference is None:
                begin = scheduler.begin_index
                begin = scheduler.index_for_timestep(timestep) if begin is None else begin
                reference = Reference(computed, look_backs or (), scheduler.sigmas[begin:])
            before, step_number = sample.clone(), len(reference.v)
            if step_number not in computed:
                estimate = reference.velocity if look_backs else lambda _: reference.v[-1]
                velocity = estimate(step_number)
            result = method(velocity, timestep, sample, *a, **kw)
            reference.log(before, result[0], velocity)
            return result

        return step

    def in_place(step: Callable[..., Any]) -> Callable[..., Any]:
        return lambda _, *a, **kw: step(*a, **kw)

    clock = Clock(computed)
    outputs: dict[int, Any] = {}

    def again(_: Any, __: Any, output: Any) -> Any:
        if clock.computing:
            outputs[clock.call] = output
        return outputs[clock.call]

    with ExitStack() as stack:
        for part in [*vars(pipe).values()]:  # LongCat's is none of the pipe's components
            if isinstance(part, SchedulerMixin):
                take = stepping(part.step)
                hook = MethodHook(
                    part, "step", lambda _, *a, take=take, **kw: take(*a, **kw), stepping
                )
                stack.callback(hook.remove)
        stack.enter_context(clock.watching(pipe))
        stack.callback(pipe.transformer.register_forward_hook(again).remove)
        return run(pipe, arguments, steps)
