"""Standing in for two methods of one scheduler: where a run begins, and where a step is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.pipelines.method_hook import MethodHook

if TYPE_CHECKING:
    from collections.abc import Callable


class SchedulerHooks:
    """Replaces `set_timesteps` and `step` of one scheduler instance until removed.

    Args:
        scheduler: the instance; its class is not touched.
        set_timesteps: called in the place of `scheduler.set_timesteps`.
        step: called in the place of `scheduler.step`.

    Attributes:
        original_set_timesteps: the scheduler's own method, for the replacement to call.
        original_step: likewise.
    """

    def __init__(
        self, scheduler: Any, set_timesteps: Callable[..., Any], step: Callable[..., Any]
    ) -> None:
        self._hooks = (
            MethodHook(scheduler, "set_timesteps", set_timesteps),
            MethodHook(scheduler, "step", step),
        )
        self.original_set_timesteps, self.original_step = (hook.original for hook in self._hooks)

    def remove(self) -> None:
        """Give the scheduler its own methods back."""
        for hook in self._hooks:
            hook.remove()
