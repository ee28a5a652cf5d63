"""Cached runs on latents by MeanCache's formulas, in plain Python."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from otcache_policies import Schedule

Velocities = NDArray[np.float64]


def uneven_sigmas(seed: int, total: int) -> NDArray[np.float64]:
    """Return random noise levels, none too near to its neighbours."""
    widths = np.random.default_rng(seed).uniform(0.5, 1.5, total)
    return 1.0 - np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum()


def plain_run(
    schedule: Schedule, recorded: Velocities, sigmas: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Return the latents before each step and at the end, by MeanCache's formulas.

    The model answers a computed step with the recorded velocity, wherever the latents are.
    """
    x, log = np.zeros(recorded.shape[1]), []
    latents = [x]
    for step in range(schedule.num_inference_steps):
        width = sigmas[step + 1] - sigmas[step]
        if schedule.is_computed(step):
            velocity = recorded[step]
        else:
            first = len(log) - min(schedule.look_back_at(step), len(log))
            span = sigmas[step] - sigmas[first]
            average = (x - log[first][0]) / span
            velocity = log[-1][1] - (log[first][1] - average) / span * width
        log.append((x, velocity))
        x = x + width * velocity
        latents.append(x)
    return latents
