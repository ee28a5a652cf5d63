"""Schedules as one line of text."""

from __future__ import annotations

from otcache_policies import Schedule

__all__ = ["draw_schedule"]


def draw_schedule(schedule: Schedule) -> str:
    """Return one character per step: █ where it is computed, · where it is cached."""
    return "".join("█" if computed else "·" for computed in schedule.mask)
