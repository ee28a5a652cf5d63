"""What a family of predictions is determined by, and in which coordinates it is improved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otcache_plugin.calibration.search import look_back_coordinates
from otcache_plugin.calibration.tuning import RHOS

if TYPE_CHECKING:
    from collections.abc import Callable

    from otcache_policies import OTCachePolicy

SHIFTS = (-2, -1, 1, 2)
"""Steps by which a computed step of the anchor is moved, and places by which rho is."""


@dataclass(frozen=True)
class Predicting:
    """An anchor's steps, the look-backs that predictions inherit, and the warp's exponent."""

    computed_steps: tuple[int, ...]
    look_backs: tuple[int, ...]
    rho: float

    def policy(self, template: OTCachePolicy) -> OTCachePolicy:
        """The policy with these in the place of its own."""
        anchor = replace(
            template.anchor, computed_steps=self.computed_steps, look_backs=self.look_backs
        )
        return replace(template, anchor=anchor, look_backs=self.look_backs, rho=self.rho)


def predicting_coordinates(
    segments: int, max_look_back: int
) -> list[Callable[[Predicting], list[Predicting]]]:
    """Every look-back, every inner step, and rho."""

    def look_backs_of(segment: int) -> Callable[[Predicting], list[Predicting]]:
        others = look_back_coordinates(segments, max_look_back)[segment]
        return lambda state: [
            replace(state, look_backs=look_backs) for look_backs in others(state.look_backs)
        ]

    def step_of(index: int) -> Callable[[Predicting], list[Predicting]]:
        def moved(state: Predicting) -> list[Predicting]:
            steps = state.computed_steps
            return [
                replace(state, computed_steps=(*steps[:index], place, *steps[index + 1 :]))
                for shift in SHIFTS
                if steps[index - 1] < (place := steps[index] + shift) < steps[index + 1]
            ]

        return moved

    def rho(state: Predicting) -> list[Predicting]:
        places = [RHOS.index(state.rho) + shift for shift in SHIFTS]
        return [replace(state, rho=RHOS[place]) for place in places if 0 <= place < len(RHOS)]

    inner = range(1, segments)
    return [*map(look_backs_of, range(segments)), *map(step_of, inner), rho]
