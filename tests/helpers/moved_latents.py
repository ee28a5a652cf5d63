"""A policy that decides: it computes every step whose latents have moved far enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from otcache_policies import Decision, RunConditions


@dataclass(frozen=True)
class MovedLatents:
    """Computes a step when its latents are further than a threshold from the last computed step's.

    Args:
        threshold: mean absolute difference that may be cached over.
        look_back: of cached steps.
        begun: the conditions of every run, for tests to look at.
        asked: the steps that were asked about, likewise.
    """

    threshold: float
    look_back: int = 1
    begun: list[RunConditions] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    name: ClassVar[str] = "moved_latents"
    observes: ClassVar[str] = "latents"

    def begin(self, run: RunConditions, observation: torch.Tensor) -> _Moved:
        self.begun.append(run)
        return _Moved(self, observation)


class _Moved:
    def __init__(self, policy: MovedLatents, latents: torch.Tensor) -> None:
        self._policy = policy
        self._computed = latents

    def decide(self, step: int, observation: torch.Tensor) -> Decision:
        self._policy.asked.append(step)
        # Reduced where the latents are; `item` waits for the device, once.
        if (observation - self._computed).abs().mean().item() <= self._policy.threshold:
            return Decision.CACHE
        self._computed = observation
        return Decision.COMPUTE
