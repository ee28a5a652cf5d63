"""What one unit of a step's velocity adds to the last latents of a run: a solver's response.

A deterministic solver is linear in the velocities that it is given, with factors made of its noise
levels alone. They are had from the scheduler's own steps on unit vectors, so that there is one
implementation of every solver: the one that the run uses.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from otcache_plugin.executors.schedulers import copy_scheduler, is_supported

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from otcache_plugin.runs.plan import Response


@torch.no_grad()
def solver_response(
    scheduler: Any, timesteps: Sequence[Any], device: torch.device
) -> NDArray[np.float64]:
    """Return what one unit of each step's velocity adds to the last latents, of shape (T,).

    The scheduler steps through as many runs side by side as there are steps; in the one of number
    t the velocity is 1 at step t and 0 at all others.

    Args:
        scheduler: as it is before the first step; a copy of it takes the steps.
        timesteps: what its `step` is called with, T of them.
        device: of the latents.
    """
    scheduler = copy_scheduler(scheduler)
    units = torch.eye(len(timesteps), device=device)
    x = torch.zeros(len(timesteps), 1, device=device)
    for step, timestep in enumerate(timesteps):
        x = scheduler.step(units[:, step : step + 1], timestep, x, return_dict=False)[0]
    response: NDArray[np.float64] = x.flatten().cpu().double().numpy()
    return response


def response_of_run(scheduler: Any, begin: int) -> Response | None:
    """Return what gives the response of the run that is about to begin.

    Args:
        scheduler: of the pipeline, before its first step.
        begin: its step that is the run's first one.

    Returns:
        The function; None where what the scheduler makes of velocities is not known.
    """
    if not is_supported(scheduler):
        return None
    timesteps = scheduler.timesteps[begin:]
    return partial(solver_response, scheduler, timesteps, timesteps.device)
