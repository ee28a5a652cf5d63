"""The average-velocity estimator: what stands in for the transformer on a cached step.

MeanCache (arXiv 2601.19961) replaces the velocity of a cached step by one extrapolated from the
average velocity over a window of past steps. The executor calls it inside a pipeline and the edge
table calls it on recorded trajectories: one function, so that the costs a schedule is chosen by are
the errors that the run will make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_policies.average_velocity import velocity_slope

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


@dataclass(frozen=True)
class LogEntry:
    """One denoising step as it happened, computed or cached.

    Attributes:
        x_before: latents handed to `scheduler.step`, any shape.
        x_after: latents it returned, same shape.
        velocity: the model output it used, same shape.
        sigma_before: noise level before the step, a 0-dimensional float32 tensor.
        sigma_after: noise level after the step, likewise.
        shift: what a callback or the pipeline itself (inpainting) added to the latents since the
            step before, same shape, float32; None where that is nothing.
    """

    x_before: torch.Tensor
    x_after: torch.Tensor
    velocity: torch.Tensor
    sigma_before: torch.Tensor
    sigma_after: torch.Tensor
    shift: torch.Tensor | None = None


def estimate_velocity(
    log: Sequence[LogEntry], look_back: int, sigma: torch.Tensor, sigma_next: torch.Tensor
) -> torch.Tensor:
    """Estimate the velocity of the step from `sigma` to `sigma_next`.

    With the window starting at `r = L - min(K, L)`, L entries in the log and look-back K:
    the average velocity over the window `u`, its slope `jvp = (v[r] - u) / window` and
    `v[L-1] - jvp * (sigma_next - sigma)`. K = 1 is plain reuse of the last velocity, up to
    rounding.

    The average is over what the steps did. What others did to the latents between them is no
    velocity, so it is taken out of the way that the latents went.

    Args:
        log: the steps so far, oldest first, at least one; entries older than the look-back are
            never read, so a caller may drop them.
        look_back: K, at least 1.
        sigma: noise level before the step, a 0-dimensional float32 tensor.
        sigma_next: noise level after it, likewise.

    Returns:
        The velocity, in the shape and dtype of the last one logged.
    """
    steps = [log[place] for place in range(len(log) - min(look_back, len(log)), len(log))]
    first, last = steps[0], steps[-1]
    window = last.sigma_after - first.sigma_before
    jvp = velocity_slope(first.velocity.float(), _travelled(steps), window).to(last.velocity.dtype)
    velocity: torch.Tensor = last.velocity - jvp * (sigma_next - sigma)
    return velocity


def _travelled(steps: Sequence[LogEntry]) -> torch.Tensor:
    """Return how far steps in a row went, in float32, without what was done between them."""
    travelled = steps[-1].x_after.float() - steps[0].x_before.float()
    for step in steps[1:]:
        if step.shift is not None:
            travelled = travelled - step.shift
    return travelled
