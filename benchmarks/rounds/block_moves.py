"""Better schedules from good ones by any value: neighbouring steps are moved together.

Where what is lowered is no quadratic form, no state stands for what comes before or after, and each
neighbour is valued by itself. A step that moves alone makes one segment longer and the next one
shorter, which rarely helps where both are right for their places. So whole blocks of neighbouring
computed steps move, and look-backs change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from otcache_policies.displacement import Candidates
from otcache_policies.schedule import Schedule

__all__ = ["descend_blocks", "neighbours"]

FURTHEST = 3
"""Steps by which a block moves at most."""

MOST_CHANGES = 50
"""A descent that has not ended after so many ends there."""

ROUNDING = 1e-9
"""A value that is lower by less counts as equal."""

Steps = NDArray[np.int_]


def descend_blocks(
    value: Callable[[Candidates], NDArray[np.float64]], schedule: Schedule, max_look_back: int
) -> Schedule:
    """Return where changes end, each of which lowers a value the most.

    Args:
        value: Of schedules of one budget, one number each.
        schedule: Where to begin.
        max_look_back: Largest look-back of a segment.
    """
    lowest = float(value(Candidates.of([schedule]))[0])
    for _ in range(MOST_CHANGES):
        near = neighbours(schedule, max_look_back)
        if not len(near):
            break
        values = value(near)
        if not values.min() < lowest - ROUNDING:
            break
        schedule, lowest = near.schedule(int(values.argmin())), float(values.min())
    return schedule


def neighbours(schedule: Schedule, max_look_back: int) -> Candidates:
    """Return the schedules that are one change away.

    A change moves neighbouring computed steps, the first and the last of all excepted, by the same
    number of steps, or gives one segment another look-back.
    """
    steps, look_backs = np.array(schedule.computed_steps), np.array(schedule.look_backs)
    moved = list(_moved(steps))
    chosen = list(_chosen(steps, look_backs, max_look_back))
    return Candidates(
        np.array([*moved, *[steps] * len(chosen)], dtype=int).reshape(-1, len(steps)),
        np.array([*[look_backs] * len(moved), *chosen], dtype=int).reshape(-1, len(look_backs)),
        schedule.num_inference_steps,
    )


def _moved(steps: Steps) -> Iterator[Steps]:
    """Yield the steps with a block of them elsewhere."""
    for first in range(1, len(steps) - 1):
        for last in range(first, len(steps) - 1):
            lowest = max(-FURTHEST, steps[first - 1] - steps[first] + 1)
            highest = min(FURTHEST, steps[last + 1] - steps[last] - 1)
            for shift in range(lowest, highest + 1):
                if shift:
                    found = steps.copy()
                    found[first : last + 1] += shift
                    yield found


def _chosen(steps: Steps, look_backs: Steps, max_look_back: int) -> Iterator[Steps]:
    """Yield the look-backs with one of them another, of segments in which something is cached.

    In the first there is one velocity to go by, whatever its look-back.
    """
    for segment in range(1, len(look_backs)):
        for look_back in range(1, max_look_back + 1):
            if steps[segment + 1] - steps[segment] > 1 and look_back != look_backs[segment]:
                found = look_backs.copy()
                found[segment] = look_back
                yield found
