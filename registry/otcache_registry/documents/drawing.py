"""Schedules as one line of text."""

from __future__ import annotations

import math

from otcache_policies import Schedule

__all__ = ["draw_schedule", "steps_per_sign"]

ALL, SOME, NONE = "█", "▒", "·"


def draw_schedule(schedule: Schedule, width: int | None = None) -> str:
    """Draw a schedule: █ is a computed step, · a cached one.

    Args:
        schedule: The schedule.
        width: Most signs to draw; each may then stand for several steps, ▒ where some of them are
            computed. None for one sign per step.
    """
    mask, group = schedule.mask, steps_per_sign(schedule.num_inference_steps, width)
    return "".join(_sign(mask[start : start + group]) for start in range(0, len(mask), group))


def steps_per_sign(num_inference_steps: int, width: int | None) -> int:
    """Return how many steps each sign stands for where there is room for `width` signs."""
    return 1 if width is None else math.ceil(num_inference_steps / width)


def _sign(computed: tuple[bool, ...]) -> str:
    return ALL if all(computed) else SOME if any(computed) else NONE
