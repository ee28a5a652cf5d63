"""BudCache's search, as its paper describes it (arXiv 2606.13496): one search for one budget.

Simulated annealing from a random schedule, 200 iterations that move one or two computed steps by up
to three, or now and then anywhere; then steepest descent over single moves by up to three. What is
minimised is the mean squared error of the last latents. Segments look back two steps, as in uniform
schedules: the paper searches steps alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from otcache_policies import Schedule

ITERATIONS = 200
WINDOW = 3
FAR = 0.1
"""How often a step goes anywhere."""

FIRST_TEMPERATURE, LAST_TEMPERATURE = 0.3, 0.01
"""Of the logarithm of the error."""

Loss = Callable[[Sequence[Schedule]], Sequence[float]]


def search(budget: int, steps: int, seed: int, loss: Loss) -> Schedule:
    """Return the schedule that the search finds.

    Args:
        budget: computed steps.
        steps: T.
        seed: of the start and of the moves.
        loss: gives the mean squared error of some schedules' latents.
    """
    rng = np.random.default_rng(seed)
    inner = rng.choice(np.arange(1, steps - 1), budget - 2, replace=False)
    current = _schedule([0, *sorted(inner.tolist()), steps - 1], steps)
    (value,) = loss([current])
    best, best_value = current, value
    for iteration in range(ITERATIONS):
        candidate = _moved(current, rng)
        (found,) = loss([candidate])
        share = iteration / (ITERATIONS - 1)
        temperature = FIRST_TEMPERATURE * (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** share
        if found <= value or rng.random() < np.exp((np.log(value) - np.log(found)) / temperature):
            current, value = candidate, found
        if value < best_value:
            best, best_value = current, value
    while True:
        moves = _neighbours(best)
        values = loss(moves)
        index = int(np.argmin(values))
        if values[index] >= best_value:
            return best
        best, best_value = moves[index], values[index]


def _schedule(computed: Sequence[int], steps: int) -> Schedule:
    gaps = np.diff(computed)
    return Schedule(computed, steps, np.where(gaps > 1, 2, 1).tolist())


def _moved(schedule: Schedule, rng: np.random.Generator) -> Schedule:
    """Return the schedule with one or two of its inner steps elsewhere."""
    steps, last = set(schedule.computed_steps), schedule.num_inference_steps - 1
    for _ in range(int(rng.integers(1, 3))):
        old = int(rng.choice(sorted(steps - {0, last})))
        free = [
            step
            for step in range(1, last)
            if step not in steps and (abs(step - old) <= WINDOW or rng.random() < FAR)
        ]
        if free:
            steps = steps - {old} | {int(rng.choice(free))}
    return _schedule(sorted(steps), schedule.num_inference_steps)


def _neighbours(schedule: Schedule) -> list[Schedule]:
    """Return the schedules with one inner step moved by up to three."""
    steps, last = set(schedule.computed_steps), schedule.num_inference_steps - 1
    found = []
    for old in schedule.computed_steps[1:-1]:
        for new in range(max(1, old - WINDOW), min(last, old + WINDOW + 1)):
            if new not in steps:
                found.append(_schedule(sorted(steps - {old} | {new}), last + 1))
    return found
