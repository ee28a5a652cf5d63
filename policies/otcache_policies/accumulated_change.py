"""Deciding by changes that are summed up over the steps until they reach a threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otcache_policies.deciding import Decision

__all__ = ["AccumulatedChange", "relative_change"]


def relative_change(now: Any, before: Any) -> float:
    """Return the L1 norm of a difference over that of the earlier value.

    It is reduced where the tensors are, and read as a single number: one wait for the device.

    Args:
        now: A tensor or an array.
        before: Another one of the same shape.
    """
    return float(abs(now - before).mean() / abs(before).mean())


class AccumulatedChange:
    """Caches steps as long as the changes since the last computed one stay below a threshold.

    Args:
        threshold: The sum at which a step is computed; 0 computes every step.
        observation: What was observed before the first step.
        rescale: Turns a change of what is observed into an estimate of how much the output changes;
            an estimate below 0 counts as none.
    """

    def __init__(
        self, threshold: float, observation: Any, rescale: Callable[[float], float]
    ) -> None:
        self._threshold = threshold
        self._rescale = rescale
        self._before = observation
        self._changed = 0.0

    def decide(self, step: int, observation: Any) -> Decision:
        """Return what is to happen at a step."""
        change = relative_change(observation, self._before)
        self._before = observation
        self._changed += max(self._rescale(change), 0.0)
        if self._changed < self._threshold:
            return Decision.CACHE
        self._changed = 0.0
        return Decision.COMPUTE
