"""What each velocity of a recorded run does to the pictures, where pictures are what is compared.

An error of the last latents is not an error of the pictures: a decoder forgives some directions and
blows up others. To first order it is linear, though, so what a unit of each velocity adds to the
pictures has inner products of its own, and these take the place of the latents' in the quadratic
form. A run's velocities lie in few directions: a dozen decoded pictures per pair tell them all.

No step is denoised for it: the pipeline is called once more for each direction, its transformer
answered from a log of the recorded run, with other last latents put into its hands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from otcache_plugin.calibration.measuring.sketches import sketch
from otcache_plugin.executors.output_log import OutputLog
from otcache_plugin.pipelines.method_hook import MethodHook

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from otcache_plugin.calibration.measuring.trajectories import Trajectory

DIRECTIONS = 12
"""Of the velocities of one run; each of the others holds some ten-thousandth of the largest one's
squares on the embedded model, and less on exact flows."""

STEP = 0.03
"""How far the last latents are moved, in their standard deviations: as far as a schedule does."""

SMALLEST = 1e-12
"""Directions whose square is this share of the largest, or less, are rounding."""


@dataclass(frozen=True, eq=False)
class PictureResponses:
    """What velocities do to pictures.

    Attributes:
        grams: `(N, T, T)` float64: `[n, s, t]` is the mean over pixels of the product of what the
            velocities of steps s and t do to pair n's pictures.
        sketches: `(N, T, k)` float32 of what each does.
    """

    grams: NDArray[np.float64]
    sketches: NDArray[np.float32]


class EndsLog(OutputLog):
    """The outputs of a run at its first and its last step, which a run of these two takes.

    Args:
        folder: where to.
        steps: of the run, T.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__(folder)
        self.ends = frozenset({0, steps - 1})

    def write(self, step: int, output: Any) -> None:
        """Keep what a call of either step gave."""
        if step in self.ends:
            super().write(step, output)


class OtherLatents:
    """Has the last step of every run under it give other latents, until removed.

    Args:
        scheduler: that is stepped.
        steps: of a run, T.
        latents: that its last step gives.
    """

    def __init__(self, scheduler: Any, steps: int, latents: torch.Tensor) -> None:
        self._steps, self._latents, self._taken = steps, latents, 0
        self._hook = MethodHook(scheduler, "step", self._step)

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        self._taken += 1
        if self._taken % self._steps:
            return result
        latents = self._latents.to(result[0])
        return (latents, *result[1:]) if isinstance(result, tuple) else type(result)(latents)

    def remove(self) -> None:
        """Take the hook off."""
        self._hook.remove()


@torch.no_grad()
def picture_responses(
    trajectory: Trajectory,
    grams: NDArray[np.float64],
    pictures: torch.Tensor,
    decode: Callable[[torch.Tensor], torch.Tensor],
) -> PictureResponses:
    """Return what each velocity of a complete run does to the pictures.

    Args:
        trajectory: of N pairs and T steps.
        grams: `(N, T, T)` Gram matrices of its velocities.
        pictures: `(N, …)` that the run gave.
        decode: gives the pictures of some last latents.
    """
    scales, shares = _principal(grams)
    directions = _directions(trajectory, scales, shares)
    last = trajectory.x(trajectory.num_inference_steps).float()
    step = STEP * float(last.std())
    moved = []
    for number in range(scales.shape[1]):
        latents = last + step * directions[:, number].reshape(last.shape)
        moved.append((decode(latents) - pictures).float().flatten(1) / step)
    responses = torch.stack(moved, dim=1)
    # A velocity is the sum of its shares in the directions, and so is what it does.
    weights = shares * scales[:, None]
    inner = torch.bmm(responses.double(), responses.double().mT) / responses.shape[2]
    short = np.stack([sketch(responses[:, number]) for number in range(len(moved))], axis=1)
    return PictureResponses(
        weights @ inner.numpy() @ weights.swapaxes(1, 2),
        (weights @ short).astype(np.float32),
    )


def _principal(grams: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how long the velocities are in their main directions, and each one's share in them.

    Returns:
        `(N, r)`, the largest first, and `(N, T, r)`; both 0 where there is nothing but rounding.
    """
    squares, vectors = np.linalg.eigh(grams)
    count = min(DIRECTIONS, grams.shape[1])
    squares, vectors = squares[:, ::-1][:, :count], vectors[:, :, ::-1][:, :, :count]
    there = squares > SMALLEST * squares[:, :1]
    scales = np.sqrt(np.where(there, squares, 0.0))
    return scales, vectors * there[:, None]


def _directions(
    trajectory: Trajectory, scales: NDArray[np.float64], shares: NDArray[np.float64]
) -> torch.Tensor:
    """Return the directions as `(N, r, elements)` of mean square 1, a velocity read at a time."""
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales > 0)
    weights = torch.from_numpy(shares * inverse[:, None]).float()
    found: torch.Tensor | None = None
    for step in range(trajectory.num_inference_steps):
        part = weights[:, step, :, None] * trajectory.v(step).float().flatten(1)[:, None]
        found = part if found is None else found + part
    assert found is not None, "a run has at least one step"
    return found
