"""The last steps of one scheduler in one run, and the velocity that they make of the next one."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from otcache_plugin.executors.estimator import LogEntry, estimate_velocity
from otcache_plugin.executors.schedulers import Substitute

if TYPE_CHECKING:
    import torch


class StepLog:
    """As many of the last steps as a cached one looks back on.

    Args:
        sigmas: noise levels of the run's steps, `(T + 1,)` float32.
        look_back: the largest one of a cached step.
        substitute: what stands in on a cached step.

    Attributes:
        step: the one at hand.
    """

    def __init__(self, sigmas: torch.Tensor, look_back: int, substitute: Substitute) -> None:
        self.step = 0
        self._sigmas = sigmas
        self._substitute = substitute
        self._entries: deque[LogEntry] = deque(maxlen=look_back)
        self._version: int | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def latents(self) -> torch.Tensor | None:
        """What the last step gave, None where none is known."""
        return self._entries[-1].x_after if self._entries else None

    def begin_step(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the latents that a step begins with, and their shift, as the log has them.

        Nothing is compared by value, which would wait for the device.
        """
        if not self._entries:
            return sample.clone(), None
        last = self._entries[-1]
        is_result = sample is last.x_after
        changed = self._version is None or _version(last.x_after) != self._version
        if changed:
            last = self._entries[-1] = replace(last, x_after=_euler_step(last))
        shift = sample.float() - last.x_after.float() if changed or not is_result else None
        # Pipelines may overwrite the latents that they hand over (Kandinsky 5), but no result.
        return sample if is_result else sample.clone(), shift

    def estimate(self, look_back: int) -> torch.Tensor:
        """Return the velocity of a cached step, the one at hand."""
        if self._substitute is Substitute.PLAIN_REUSE:
            return self._entries[-1].velocity
        return estimate_velocity(self._entries, look_back, *self._levels())

    def end_step(
        self,
        began: tuple[torch.Tensor, torch.Tensor | None],
        x_after: torch.Tensor,
        velocity: torch.Tensor,
    ) -> None:
        """Take note of a step, and go on to the next.

        Args:
            began: what `begin_step` gave.
            x_after: the latents that the step gave.
            velocity: that it used.
        """
        x_before, shift = began
        self._entries.append(LogEntry(x_before, x_after, velocity, *self._levels(), shift))
        self._version = _version(x_after)
        self.step += 1
        if self.step == len(self._sigmas) - 1:
            self._entries.clear()  # Nothing needs the tensors once the last step is taken.

    def forget_before(self, step: int) -> None:
        """Drop the steps before one."""
        while self._entries and self.step - len(self._entries) < step:
            self._entries.popleft()

    def _levels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the noise levels before and after the step at hand."""
        return self._sigmas[self.step], self._sigmas[self.step + 1]


def _euler_step(step: LogEntry) -> torch.Tensor:
    """Return what a step gave, which somebody may have changed in place since."""
    width = step.sigma_after - step.sigma_before
    return (step.x_before.float() + width * step.velocity).to(step.velocity.dtype)


def _version(latents: torch.Tensor) -> int | None:
    """Return what changes with every change in place; None under inference mode, which has none."""
    return None if latents.is_inference() else latents._version
