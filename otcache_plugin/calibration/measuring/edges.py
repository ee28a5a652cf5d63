"""The edges rolled out from a trajectory, and the edge table they come to.

Nothing here calls the transformer beyond the recorded run: what caching steps `i+1 … j-1` with
look-back K would do is computed by what runs on cached steps, from the recorded log up to step i
and through its own predictions after it. That is the estimator, or for a scheduler that only allows
plain reuse the scheduler itself, given the same velocity again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from otcache_policies import EdgeTable, same_sigmas

from otcache_plugin.calibration.errors import RecordingError
from otcache_plugin.calibration.settings import MAX_LOOK_BACK
from otcache_plugin.executors.estimator import LogEntry, estimate_velocity
from otcache_plugin.executors.schedulers import Substitute, copy_scheduler, supported_substitute
from otcache_plugin.pipelines.parts import find_scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from diffusers import DiffusionPipeline
    from numpy.typing import ArrayLike, NDArray

    from otcache_plugin.calibration.measuring.trajectories import Trajectory


def max_look_back(pipe: DiffusionPipeline) -> int:
    """Return the largest look-back that is measured of this pipeline.

    Raises:
        PipelineError: the scheduler is none that anything can stand in for.
    """
    reuse = supported_substitute(find_scheduler(pipe)) is Substitute.PLAIN_REUSE
    return 1 if reuse else MAX_LOOK_BACK


@torch.no_grad()
def edge_errors(trajectory: Trajectory, max_look_back: int = MAX_LOOK_BACK) -> NDArray[np.float32]:
    """Return what each edge would cost on each pair of one trajectory.

    Needs no more than one roll-out's log at a time, `2 * max_look_back + 1` latents, and what the
    scheduler keeps.

    Args:
        trajectory: a complete run of N prompt-seed pairs, the first dimension of its latents.
        max_look_back: the largest look-back to measure. A scheduler that only allows plain reuse
            is measured at look-back 1 alone.

    Returns:
        `(N, T, T, K)` float32: `[n, i, j, k-1]` is `mean |u_hat_k(i→j) - u(i→j)|` over the
        elements of pair n, with `u` the average velocity from step i to step j; 0 for
        neighbours, infinite for `j <= i`.

    Raises:
        RecordingError: the run is not complete, or its scheduler, stepped through it again, does
            not arrive at the recorded latents.
    """
    steps = trajectory.num_inference_steps
    if steps == 0 or len(trajectory.timesteps) < steps:
        problem = f"taken of the run's {steps}" if steps else "taken: nothing was recorded"
        remedy = "Record one whole pipeline call"
        raise RecordingError("steps", len(trajectory.timesteps), problem, remedy)
    reuse = supported_substitute(trajectory.scheduler) is Substitute.PLAIN_REUSE
    look_backs = 1 if reuse else max_look_back
    pairs = trajectory.x(0).shape[0]
    errors = np.full((pairs, steps, steps, look_backs), np.inf, dtype=np.float32)
    scheduler = copy_scheduler(trajectory.scheduler)
    for start in range(steps):
        _step_again(trajectory, scheduler, start)
        errors[:, start, start + 1 : start + 2] = 0.0
        for look_back in range(1, look_backs + 1):
            rollout = (
                _roll_out_reuse(trajectory, scheduler, start)
                if reuse
                else _roll_out_estimates(trajectory, start, look_back)
            )
            errors[:, start, start + 2 :, look_back - 1] = _distances(trajectory, start, rollout)
    return errors


def _step_again(trajectory: Trajectory, scheduler: Any, step: int) -> None:
    """Take a recorded step once more and require the recorded latents, to the bit."""
    device = trajectory.device
    v, x = trajectory.v(step).to(device), trajectory.x(step).to(device)
    again = scheduler.step(v, trajectory.timesteps[step], x, return_dict=False)[0]
    if not torch.equal(again, trajectory.x(step + 1).to(device)):
        raise RecordingError(
            "scheduler",
            type(trajectory.scheduler).__name__,
            f"given the recorded velocity of step {step} again, it does not give the recorded "
            "latents: its steps are not deterministic, or something changes them",
            "Use a deterministic scheduler, and record without a policy or hooks on its step",
        )


def _roll_out_estimates(
    trajectory: Trajectory, start: int, look_back: int
) -> Iterator[torch.Tensor]:
    """Yield the latents before steps `start + 2 … T - 1` with nothing computed after `start`."""
    sigmas, device = trajectory.sigmas.to(trajectory.device), trajectory.device
    log: deque[LogEntry] = deque(maxlen=look_back)
    first = max(0, start + 1 - look_back)
    x = trajectory.x(first).to(device)
    for step in range(first, start + 1):
        x_next, v = trajectory.x(step + 1).to(device), trajectory.v(step).to(device)
        log.append(LogEntry(x, x_next, v, sigmas[step], sigmas[step + 1]))
        x = x_next
    for step in range(start + 1, trajectory.num_inference_steps - 1):
        v = estimate_velocity(log, look_back, sigmas[step], sigmas[step + 1])
        # As the scheduler does it, its rounding included.
        x_next = (x.float() + (sigmas[step + 1] - sigmas[step]) * v).to(v.dtype)
        log.append(LogEntry(x, x_next, v, sigmas[step], sigmas[step + 1]))
        x = x_next
        yield x


def _roll_out_reuse(trajectory: Trajectory, scheduler: Any, start: int) -> Iterator[torch.Tensor]:
    """Yield likewise, with the velocity of `start` given to the scheduler again and again.

    Args:
        trajectory: the recorded run.
        scheduler: in its state after step `start`; left as it is.
        start: the last computed step.
    """
    device = trajectory.device
    v, x = trajectory.v(start).to(device), trajectory.x(start + 1).to(device)
    scheduler = copy_scheduler(scheduler)
    for step in range(start + 1, trajectory.num_inference_steps - 1):
        x = scheduler.step(v, trajectory.timesteps[step], x, return_dict=False)[0]
        yield x


def _distances(
    trajectory: Trajectory, start: int, rollout: Iterable[torch.Tensor]
) -> NDArray[np.float32]:
    """Return `(N, …)` errors of the average velocity from `start` to each rolled-out step."""
    sigmas = trajectory.sigmas
    errors = []
    for step, x_hat in enumerate(rollout, start + 2):
        # Both average velocities begin at the same latents, which therefore cancel out.
        difference = x_hat.float() - trajectory.x(step).to(trajectory.device).float()
        span = (sigmas[step] - sigmas[start]).abs().item()
        errors.append(difference.abs_().flatten(1).mean(1) / span)
    if not errors:
        return np.empty((trajectory.x(0).shape[0], 0), dtype=np.float32)
    # One transfer per roll-out: each waits for all that the accelerator was given.
    distances: NDArray[np.float32] = torch.stack(errors, dim=1).cpu().numpy()
    return distances


def require_same_sigmas(sigmas: NDArray[np.float64], others: NDArray[np.float64]) -> None:
    """Raise RecordingError when two runs were recorded with different noise schedules."""
    if not same_sigmas(sigmas, others):
        raise RecordingError(
            "sigmas",
            sigmas.tolist(),
            "the pipeline changed its noise schedule between two runs, as those do that adapt it "
            "to the resolution",
            "Calibrate with one height, width and number of frames",
        )


class EdgeAccumulator:
    """The mean edge table over pairs and their spread, added one trajectory at a time.

    Pairs are taken one by one (Welford's recurrence in float64), so how they were batched makes no
    difference.
    """

    def __init__(self) -> None:
        self._pairs = 0
        self._sigmas: NDArray[np.float64] | None = None
        self._mean: NDArray[np.float64] = np.zeros(0)
        self._squares: NDArray[np.float64] = np.zeros(0)

    def add(self, errors: NDArray[np.float32], sigmas: ArrayLike) -> None:
        """Add what `edge_errors` gave for a trajectory, and the trajectory's sigmas.

        Raises:
            RecordingError: the sigmas, or the look-backs, are not those of the trajectories before.
        """
        levels = np.asarray(sigmas, dtype=np.float64)
        if self._sigmas is None:
            self._sigmas = levels
            self._mean, self._squares = np.zeros(errors.shape[1:]), np.zeros(errors.shape[1:])
        require_same_sigmas(levels, self._sigmas)
        if errors.shape[1:] != self._mean.shape:
            problem = f"not of the shape (N, {', '.join(map(str, self._mean.shape))})"
            remedy = "Add errors of one scheduler and one largest look-back"
            raise RecordingError("errors", errors.shape, problem, remedy)
        for pair in errors.astype(np.float64):
            # There is no edge where the errors are infinite; a mean of those would be no number.
            pair[~_edges(len(pair))] = 0.0
            self._pairs += 1
            difference = pair - self._mean
            self._mean += difference / self._pairs
            self._squares += difference * (pair - self._mean)

    def table(self) -> EdgeTable:
        """Return the mean and, from two pairs on, the standard deviation over pairs so far."""
        assert self._sigmas is not None, "no trajectory was added"
        mean = self._mean.astype(np.float32)
        mean[~_edges(len(mean))] = np.inf
        if self._pairs < 2:
            return EdgeTable(mean, self._sigmas)
        spread = np.sqrt(self._squares / (self._pairs - 1)).astype(np.float32)
        return EdgeTable(mean, self._sigmas, spread)


def _edges(steps: int) -> NDArray[np.bool_]:
    """Return where an edge table has an edge: `[i, j]` with `i < j`."""
    return np.triu(np.ones((steps, steps), dtype=bool), k=1)
