"""Standing in for two methods of one scheduler: where a run begins, and where a step is taken."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class SchedulerHooks:
    """Replaces ``set_timesteps`` and ``step`` of one scheduler instance until removed.

    Args:
        scheduler: the instance; its class is not touched.
        set_timesteps: called in the place of ``scheduler.set_timesteps``.
        step: called in the place of ``scheduler.step``.

    Attributes:
        original_set_timesteps: the scheduler's own method, for the replacement to call.
        original_step: likewise.
    """

    def __init__(
        self, scheduler: Any, set_timesteps: Callable[..., Any], step: Callable[..., Any]
    ) -> None:
        self._scheduler = scheduler
        self.original_set_timesteps = scheduler.set_timesteps
        self.original_step = scheduler.step
        scheduler.set_timesteps = _in_place_of(scheduler.set_timesteps, set_timesteps)
        scheduler.step = _in_place_of(scheduler.step, step)

    def remove(self) -> None:
        """Gives the scheduler its own methods back."""
        del self._scheduler.set_timesteps, self._scheduler.step


def _in_place_of(original: Callable[..., Any], replacement: Callable[..., Any]) -> Any:
    """The replacement with the signature of the original, which pipelines inspect."""
    return functools.update_wrapper(functools.partial(replacement), original)
