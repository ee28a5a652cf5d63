"""What one run under the velocity executor has done so far, and what its next step is to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otcache_plugin.executors.stale_outputs import StaleOutputs
from otcache_plugin.executors.step_log import StepLog

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from otcache_plugin.executors.schedulers import Substitute
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
        velocities_since: the step from which on the velocities are of the same kind: no guidance
            was switched on or off since, nor its scale changed.
    """

    def __init__(self) -> None:
        self.step = 0
        self.calls_in_step = 0
        self.computed_steps: list[int] = []
        self.transformer_calls = 0
        self.stale = StaleOutputs()
        self.feeds_in_step = 0
        self.stale_feeds: list[Any] = []
        self.velocities_since = 0
        self._resolution: Resolution | None = None
        self._log: StepLog | None = None
        self._guidance_changes: list[int] = []
        self._scales: Mapping[str, float] | None = None
        self._kind: tuple[tuple[int | None, ...], Mapping[str, float] | None] | None = None
        self._computing: bool | None = None

    def follow(self, resolution: Resolution, sigmas: torch.Tensor, substitute: Substitute) -> None:
        """Know what the run follows.

        Args:
            resolution: what to compute.
            sigmas: noise levels of its steps, `(T + 1,)` float32.
            substitute: what stands in on a cached step.
        """
        self._resolution = resolution
        self._log = StepLog(sigmas, resolution.largest_look_back, substitute)

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
    def log(self) -> StepLog:
        """The last steps."""
        assert self._log is not None, "known by the end of the first step"
        return self._log

    @property
    def finished(self) -> bool:
        """Whether the last step has been taken."""
        return self.is_known and self.step == self.resolution.num_inference_steps

    def computes(self) -> bool:
        """Return whether the step at hand is computed, asked for once; the first one always is."""
        if self.step == 0:
            return True
        if self._computing is None:
            self._computing = self.resolution.computes(self.step, self.log.latents)
        return self._computing

    def was_computed(self, step: int) -> bool:
        """Return whether a step is computed, the one at hand or an earlier one."""
        return self.computes() if step == self.step else step in self.computed_steps

    def note_guidance(self, scales: Mapping[str, float]) -> None:
        """Take note of the guidance of the step at hand, before it is taken."""
        if self._scales is not None and scales != self._scales:
            self._guidance_changes.append(self.step)
        self._scales = scales

    def note_calls(self) -> None:
        """Take note of the calls of a computed step, when they have been made.

        Others than those of the last one, with other samples, mean that guidance was switched on
        or off, and its scale may have been changed. No slope is to be taken over the velocities of
        both, so the log begins anew.
        """
        kind = self.stale.samples, self._scales
        if self._kind is not None and self._kind != kind:
            self.velocities_since = self.step
            self.log.forget_before(self.step)
        self._kind = kind

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the run so far."""
        late = [str(step) for step in self._guidance_changes if step not in self.computed_steps]
        if not late:
            return ()
        return (
            f"The guidance was changed before {', '.join(late)}, where nothing is computed: from "
            "there to the next computed step the velocity is that of the guidance before.",
        )

    def advance(self) -> None:
        """Go on to the next step."""
        self.step, self.calls_in_step, self._computing = self.step + 1, 0, None
        self.feeds_in_step = 0
        if self.finished:
            # Nothing needs the tensors once the last step is taken.
            self.stale.clear()
            self.stale_feeds.clear()
