"""Gram tables of velocities that are like a model's, and all the schedules there are."""

from __future__ import annotations

import itertools

import numpy as np
from otcache_policies import Schedule
from otcache_policies.gram import GramTable


def smooth_table(pairs: int, total: int, seed: int, *, even: bool = True) -> GramTable:
    """Return the table of velocities that change smoothly, as a model's do.

    Noise levels are evenly spaced, or at random distances.
    """
    rng = np.random.default_rng(seed)
    progress = np.linspace(0.0, 1.0, total)
    waves = np.arange(8)
    phases = rng.uniform(0, 2 * np.pi, (pairs, 8, 1))
    shapes = np.cos(np.pi * waves[:, None] * progress + phases) / (1 + waves[:, None]) ** 1.5
    velocities = np.einsum("pwt,pwe->pte", shapes, rng.normal(size=(pairs, 8, 32)))
    widths = np.ones(total) if even else rng.uniform(0.5, 1.5, total)
    sigmas = 1 - np.concatenate([[0.0], np.cumsum(widths) / widths.sum()])
    return GramTable(velocities @ velocities.transpose(0, 2, 1) / 32, sigmas)


def every_schedule(total: int, budget: int, max_look_back: int) -> list[Schedule]:
    """Return all schedules of a budget; a look-back without a cached step is 1."""
    found = []
    for inner in itertools.combinations(range(1, total - 1), budget - 2):
        steps = [0, *inner, total - 1]
        choices = [range(1, max_look_back + 1 if gap > 1 else 2) for gap in np.diff(steps)]
        found += [Schedule(steps, total, windows) for windows in itertools.product(*choices)]
    return found
