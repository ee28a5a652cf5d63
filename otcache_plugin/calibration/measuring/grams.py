"""What the quadratic form of a schedule's error needs of a trajectory: Gram matrices, a response.

Both come from one recorded run. The inner products of its velocities are added up in float64, a
block of steps against a block of steps, so that never more than two blocks are in memory. What a
velocity adds to the last latents is had from the scheduler that made the recorded steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from otcache_policies import SAME_SIGMAS, GramTable, euler_response

from otcache_plugin.executors.solver_response import solver_response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from otcache_plugin.calibration.measuring.trajectories import Trajectory

BLOCK = 5
"""Steps whose velocities are in memory at a time, twice."""


@torch.no_grad()
def gram_matrices(trajectory: Trajectory) -> NDArray[np.float64]:
    """Return the Gram matrix of each pair's velocities.

    Args:
        trajectory: a complete run of N prompt-seed pairs and T steps.

    Returns:
        `(N, T, T)` float64: `[n, s, t]` is the mean over elements of the product of pair n's
        velocities of steps s and t.
    """
    steps = trajectory.num_inference_steps
    grams = np.zeros((trajectory.x(0).shape[0], steps, steps))
    blocks = [range(start, min(start + BLOCK, steps)) for start in range(0, steps, BLOCK)]
    for index, rows in enumerate(blocks):
        ours = _velocities(trajectory, rows)
        for columns in blocks[: index + 1]:
            theirs = ours if columns is rows else _velocities(trajectory, columns)
            products = (torch.bmm(ours, theirs.mT) / ours.shape[2]).numpy()
            grams[:, rows.start : rows.stop, columns.start : columns.stop] = products
            grams[:, columns.start : columns.stop, rows.start : rows.stop] = products.swapaxes(1, 2)
    return grams


def scheduler_response(trajectory: Trajectory) -> NDArray[np.float64]:
    """Return what one unit of each step's velocity adds to the last latents, of shape (T,)."""
    return solver_response(trajectory.scheduler, trajectory.timesteps, trajectory.device)


def gram_table(grams: NDArray[Any], recorded: Mapping[str, NDArray[Any]]) -> GramTable:
    """Return the table of some pairs' matrices.

    Args:
        grams: `(N, T, T)`, a matrix of each pair.
        recorded: what any recording gave, whose noise schedule and response they have in common.
    """
    sigmas, response = recorded["sigmas"], recorded["response"]
    euler = np.allclose(response, euler_response(sigmas), atol=SAME_SIGMAS)
    return GramTable(grams, sigmas, None if euler else response)


def _velocities(trajectory: Trajectory, steps: Sequence[int]) -> torch.Tensor:
    """Return `(N, steps, elements)` in float64."""
    return torch.stack([trajectory.v(step).double().flatten(1) for step in steps], dim=1)
