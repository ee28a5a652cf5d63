"""Stage 1: recorded full-step trajectories, and the edge table rolled out from them.

Nothing here calls the transformer beyond the recorded run: what caching steps ``i+1 … j-1`` with
look-back K would do is computed by the estimator that runs on cached steps, from the recorded log
up to step i and through its own predictions after it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from otcache_policies import EdgeTable

from otcache_plugin.executors.estimator import LogEntry, estimate_velocity
from otcache_plugin.executors.parts import find_euler_scheduler
from otcache_plugin.executors.scheduler_hooks import MethodHook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffusers import DiffusionPipeline

MAX_LOOK_BACK = 6


@dataclass
class Trajectory:
    """A recorded run of T steps.

    Attributes:
        x: T + 1 latents, ``x[i]`` before step i.
        v: T velocities, ``v[i]`` as handed to ``scheduler.step`` at step i.
        sigmas: ``(T + 1,)`` float32.
    """

    x: list[torch.Tensor] = field(default_factory=list)
    v: list[torch.Tensor] = field(default_factory=list)
    sigmas: torch.Tensor = field(default_factory=lambda: torch.empty(0))


@contextmanager
def record(pipe: DiffusionPipeline) -> Iterator[Trajectory]:
    """Records the pipeline call made inside the block.

    Raises:
        PipelineError: the scheduler does not take Euler steps of a velocity.
    """
    scheduler = find_euler_scheduler(pipe)
    trajectory = Trajectory()

    def step(model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, **kw: Any) -> Any:
        result = hook.original(model_output, timestep, sample, **kw)
        if not trajectory.x:
            trajectory.x.append(sample)
            trajectory.sigmas = scheduler.sigmas[scheduler.begin_index or 0 :].float().cpu()
        trajectory.v.append(model_output)
        trajectory.x.append(result[0])
        return result

    hook = MethodHook(scheduler, "step", step)
    try:
        yield trajectory
    finally:
        hook.remove()


def velocity_errors(
    trajectory: Trajectory, max_look_back: int = MAX_LOOK_BACK
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    """What each edge would cost on one trajectory.

    Returns:
        ``(T, T, K)`` float32: ``[i, j, k-1]`` is ``mean |u_hat_k(i→j) - u(i→j)|`` with ``u`` the
        average velocity from step i to step j; 0 for neighbours, infinite for ``j <= i``.
    """
    steps = len(trajectory.v)
    errors = np.full((steps, steps, max_look_back), np.inf, dtype=np.float32)
    log = recorded_log(trajectory)
    for start in range(steps - 1):
        errors[start, start + 1, :] = 0.0
        for look_back in range(1, max_look_back + 1):
            rollout = _roll_out(trajectory, log, start, look_back)
            errors[start, start + 2 :, look_back - 1] = rollout
    return errors


def recorded_log(trajectory: Trajectory) -> list[LogEntry]:
    """The log that a full-step run leaves."""
    sigmas = trajectory.sigmas
    return [
        LogEntry(trajectory.x[i], trajectory.x[i + 1], trajectory.v[i], sigmas[i], sigmas[i + 1])
        for i in range(len(trajectory.v))
    ]


def _roll_out(
    trajectory: Trajectory, log: list[LogEntry], start: int, look_back: int
) -> list[float]:
    """Errors of the edges from ``start`` to ``start + 2 … T - 1``, one rollout for all of them."""
    sigmas, x_start = trajectory.sigmas, trajectory.x[start].float()
    rolling = log[: start + 1][-look_back:]
    errors = []
    for step in range(start + 1, len(trajectory.v) - 1):
        velocity = estimate_velocity(rolling, look_back, sigmas[step], sigmas[step + 1])
        x = rolling[-1].x_after
        x_next = (x.float() + (sigmas[step + 1] - sigmas[step]) * velocity).to(x.dtype)
        rolling.append(LogEntry(x, x_next, velocity, sigmas[step], sigmas[step + 1]))
        rolling = rolling[-look_back:]
        span = sigmas[step + 1] - sigmas[start]
        average = (trajectory.x[step + 1].float() - x_start) / span
        predicted = (x_next.float() - x_start) / span
        errors.append((predicted - average).abs().mean().item())
    return errors


class EdgeAccumulator:
    """The mean edge table over trajectories, added one batch at a time."""

    def __init__(self) -> None:
        self._sum: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self._pairs = 0
        self._sigmas: np.ndarray[Any, np.dtype[np.float64]] | None = None

    def add(self, trajectory: Trajectory) -> None:
        """Adds a trajectory of ``trajectory.x[0].shape[0]`` prompt-seed pairs."""
        pairs = trajectory.x[0].shape[0]
        weighted = velocity_errors(trajectory).astype(np.float64) * pairs
        self._sum = weighted if self._sum is None else self._sum + weighted
        self._sigmas = trajectory.sigmas.double().numpy()
        self._pairs += pairs

    def table(self) -> EdgeTable:
        """The mean so far."""
        assert self._sum is not None, "no trajectory was added"
        assert self._sigmas is not None
        return EdgeTable((self._sum / self._pairs).astype(np.float32), self._sigmas)
