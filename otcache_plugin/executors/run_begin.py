"""Which of a scheduler's steps is the first one of a run.

Pipelines that begin from a picture or a video skip the first timesteps. Most say so by
`set_begin_index` before the loop. Others (Wan's video to video, LTX's conditioned videos) loop over
a part of the timesteps and leave the scheduler to find out by the timestep of the first step: what
the transformer is called with won't tell, because pipelines scale, round and expand it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def known_begin(scheduler: Any) -> int | None:
    """Return the first step that the pipeline has set, None where it has set none."""
    begin: int | None = getattr(scheduler, "begin_index", None)
    return begin


def begin_by_timestep(scheduler: Any, timestep: float | torch.Tensor) -> int:
    """Return the first step of a run whose pipeline has set none.

    Args:
        scheduler: which has taken no step of the run.
        timestep: what its first `step` is called with.
    """
    if not hasattr(scheduler, "index_for_timestep"):
        return 0  # It cannot begin anywhere else either.
    begin: int = scheduler.index_for_timestep(timestep)
    return begin
