"""What one run under the velocity executor has done so far, and what its next step is to be."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from otcache_plugin.executors.estimator import LogEntry
    from otcache_plugin.runs.resolution import Resolution


class VelocityRun:
    """The state of one run, dropped with it.

    Args:
        resolution: what the run follows.
        sigmas: noise levels of its steps, `(T + 1,)` float32.
        begin: the scheduler's step that is the run's first one.

    Attributes:
        step: the one at hand.
        calls_in_step: of the transformer, made or answered for it.
        computed_steps: so far.
        transformer_calls: that really ran.
        stale_outputs: of the last computed step, one per call.
        log: the last steps, as many as a cached step looks back on.
    """

    def __init__(self, resolution: Resolution, sigmas: torch.Tensor, begin: int) -> None:
        self.resolution = resolution
        self.sigmas = sigmas
        self.begin = begin
        self.step = 0
        self.calls_in_step = 0
        self.computed_steps: list[int] = []
        self.transformer_calls = 0
        self.stale_outputs: list[Any] = []
        self.log: deque[LogEntry] = deque(maxlen=resolution.largest_look_back)
        self._computing: bool | None = None

    @property
    def finished(self) -> bool:
        """Whether the last step has been taken."""
        return self.step == self.resolution.num_inference_steps

    def computes(self) -> bool:
        """Return whether the step at hand is computed, asked for once."""
        if self._computing is None:
            latents = self.log[-1].x_after if self.log else None
            self._computing = self.resolution.computes(self.step, latents)
        return self._computing

    def advance(self, entry: LogEntry) -> None:
        """Take note of a step, and go on to the next."""
        self.log.append(entry)
        self.step, self.calls_in_step, self._computing = self.step + 1, 0, None
        if self.finished:
            self.release()

    def release(self) -> None:
        """Drop the tensors, which nothing needs once the last step is taken."""
        self.stale_outputs.clear()
        self.log.clear()
