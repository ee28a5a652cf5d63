"""Runs that are worked out without the executor, and runs that are interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tiny_pipelines import Case


def look_back_of(cached: int, steps: Sequence[int], look_backs: Sequence[int]) -> int:
    """The look-back of the segment that a cached step lies in, from the plain lists."""
    for start, end, look_back in zip(steps[:-1], steps[1:], look_backs, strict=True):
        if start < cached < end:
            return look_back
    raise AssertionError(f"step {cached} is computed")


class Reference:
    """Velocities of a run, computed or estimated, with the log of every step in plain lists.

    Args:
        steps: the computed steps.
        look_backs: one per segment.
        sigmas: T + 1 noise levels, float32.
    """

    def __init__(
        self, steps: Sequence[int], look_backs: Sequence[int], sigmas: torch.Tensor
    ) -> None:
        self.steps, self.look_backs, self.sigmas = steps, look_backs, sigmas
        self.x_before: list[torch.Tensor] = []
        self.x_after: list[torch.Tensor] = []
        self.v: list[torch.Tensor] = []

    def velocity(self, i: int) -> torch.Tensor:
        """The velocity of a cached step."""
        assert len(self.v) == i
        r = i - min(look_back_of(i, self.steps, self.look_backs), i)
        # sigma before step r, and after step i - 1: the ends of the window.
        window = self.sigmas[i] - self.sigmas[r]
        u = (self.x_after[i - 1].float() - self.x_before[r].float()) / window
        jvp = ((self.v[r].float() - u) / window).to(self.v[i - 1].dtype)
        return self.v[i - 1] - jvp * (self.sigmas[i + 1] - self.sigmas[i])

    def log(self, x_before: torch.Tensor, x_after: torch.Tensor, v: torch.Tensor) -> None:
        """Take note of a step."""
        self.x_before.append(x_before)
        self.x_after.append(x_after)
        self.v.append(v)


def reference_run(
    case: Case, pipe: Any, steps: Sequence[int], look_backs: Sequence[int], **arguments: Any
) -> torch.Tensor:
    """Run an untouched pipeline, its transformer at every step, replacing what `step` is given.

    The pipeline's own velocity is used at computed steps; at cached steps what it worked out from
    latents that came of estimates is thrown away.
    """
    scheduler = pipe.scheduler
    original_step = scheduler.step
    reference: Reference | None = None

    def step(model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, **kw: Any) -> Any:
        nonlocal reference
        if reference is None:
            begin = scheduler.begin_index or 0
            reference = Reference(steps, look_backs, scheduler.sigmas[begin:])
        i = len(reference.v)
        v = model_output if i in steps else reference.velocity(i)
        result = original_step(v, timestep, sample, **kw)
        reference.log(sample, result[0], v)
        return result

    scheduler.step = step
    try:
        return case.run(pipe, **arguments)
    finally:
        del scheduler.step


class InterruptedRunError(Exception):
    """Raised by a callback in the middle of a run."""


def interrupt_at(step: int) -> Any:
    def callback(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if index == step:
            raise InterruptedRunError
        return tensors

    return callback
