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

    Its first step is computed whatever it follows, so a run begins before that is known.

    Attributes:
        step: the one at hand.
        calls_in_step: of the transformer, made or answered for it.
        computed_steps: so far.
        transformer_calls: that really ran.
        stale_outputs: of the last computed step, one per call.
        log: the last steps, as many as a cached step looks back on.
    """

    def __init__(self) -> None:
        self.step = 0
        self.calls_in_step = 0
        self.computed_steps: list[int] = []
        self.transformer_calls = 0
        self.stale_outputs: list[Any] = []
        self.log: deque[LogEntry] = deque()
        self._resolution: Resolution | None = None
        self._sigmas: torch.Tensor | None = None
        self._computing: bool | None = None

    def follow(self, resolution: Resolution, sigmas: torch.Tensor) -> None:
        """Know what the run follows.

        Args:
            resolution: what to compute.
            sigmas: noise levels of its steps, `(T + 1,)` float32.
        """
        self._resolution, self._sigmas = resolution, sigmas
        self.log = deque(maxlen=resolution.largest_look_back)

    @property
    def is_known(self) -> bool:
        """Whether it is known what the run follows."""
        return self._resolution is not None

    @property
    def resolution(self) -> Resolution:
        """What the run follows."""
        assert self._resolution is not None, "known by the end of the first step"
        return self._resolution

    @property
    def sigmas(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise levels before and after the step at hand."""
        assert self._sigmas is not None, "known by the end of the first step"
        return self._sigmas[self.step], self._sigmas[self.step + 1]

    @property
    def finished(self) -> bool:
        """Whether the last step has been taken."""
        return self.is_known and self.step == self.resolution.num_inference_steps

    def computes(self) -> bool:
        """Return whether the step at hand is computed, asked for once; the first one always is."""
        if self.step == 0:
            return True
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
