"""What one run under the velocity executor has done so far, and what its next step is to be."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from otcache_plugin.executors.stale_outputs import StaleOutputs

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
        stale: outputs of the last computed step.
        feeds_in_step: calls of what feeds the transformer, made or answered for it.
        stale_feeds: what those of the last computed step gave.
        log: the last steps, as many as a cached step looks back on.
    """

    def __init__(self) -> None:
        self.step = 0
        self.calls_in_step = 0
        self.computed_steps: list[int] = []
        self.transformer_calls = 0
        self.stale = StaleOutputs()
        self.feeds_in_step = 0
        self.stale_feeds: list[Any] = []
        self.log: deque[LogEntry] = deque()
        self._resolution: Resolution | None = None
        self._sigmas: torch.Tensor | None = None
        self._version: int | None = None
        self._calls: tuple[int | None, ...] | None = None
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

    def begin_step(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the latents that a step begins with, and their shift, as the log has them.

        Nothing is compared by value, which would wait for the device.
        """
        if not self.log:
            return sample.clone(), None
        last = self.log[-1]
        is_result = sample is last.x_after
        changed = self._version is None or _version(last.x_after) != self._version
        if changed:
            last = self.log[-1] = replace(last, x_after=_euler_step(last))
        shift = sample.float() - last.x_after.float() if changed or not is_result else None
        # Pipelines may overwrite the latents that they hand over (Kandinsky 5), but no result.
        return sample if is_result else sample.clone(), shift

    def note_calls(self) -> None:
        """Take note of the calls of a computed step, when they have been made.

        Others than those of the last one, with other samples, mean that guidance was switched on
        or off. No slope is to be taken over the velocities of both, so the log begins anew.
        """
        calls = self.stale.samples
        if self._calls is not None and self._calls != calls:
            self.log.clear()
        self._calls = calls

    def advance(self, entry: LogEntry) -> None:
        """Take note of a step, and go on to the next."""
        self.log.append(entry)
        self._version = _version(entry.x_after)
        self.step, self.calls_in_step, self._computing = self.step + 1, 0, None
        self.feeds_in_step = 0
        if self.finished:
            self.release()

    def release(self) -> None:
        """Drop the tensors, which nothing needs once the last step is taken."""
        self.stale.clear()
        self.stale_feeds.clear()
        self.log.clear()


def _euler_step(step: LogEntry) -> torch.Tensor:
    """Return what a step gave, which somebody may have changed in place since."""
    width = step.sigma_after - step.sigma_before
    return (step.x_before.float() + width * step.velocity).to(step.velocity.dtype)


def _version(latents: torch.Tensor) -> int | None:
    """Return what changes with every change in place; None under inference mode, which has none."""
    return None if latents.is_inference() else latents._version
