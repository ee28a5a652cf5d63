"""BudCache's search, as its paper describes it (arXiv 2606.13496): one search for one budget.

Simulated annealing from a random schedule, 200 iterations that move one or two computed steps by up
to three, or now and then anywhere; then steepest descent over single moves by up to three. What is
minimised is the mean squared error of the last latents. Every segment looks back as far: the paper
searches steps alone.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from otcache_policies import Schedule

from otcache_plugin.calibration.searching.candidates import losses_on
from otcache_plugin.plugins.calibrating import Losses, LossRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from otcache_plugin.evaluation.batches import Batch
    from otcache_plugin.plugins.calibrating import Search

ITERATIONS = 200
WINDOW = 3
FAR = 0.1
"""How often a step goes anywhere."""

MOST_DESCENTS = 20
"""Steps of the descent, at most; seen were 3 to 8."""

FIRST_TEMPERATURE, LAST_TEMPERATURE = 0.3, 0.01
"""Of the logarithm of the error."""


def most_trials(budget: int) -> int:
    """Return how many schedules a search of some budget judges at most."""
    return 1 + ITERATIONS + MOST_DESCENTS * 2 * WINDOW * (budget - 2)


Asking = Generator[list[LossRequest], Losses, list[float]]


@dataclass(frozen=True)
class Annealing:
    """A search for the schedule of one budget.

    Attributes:
        budget: computed steps, at least 2.
        num_inference_steps: T.
        look_back: of every segment with cached steps.
        seed: of the start and of the moves.
        batches: the pairs that schedules are judged on.
        on_trial: called after every schedule that was judged, with its error.
    """

    budget: int
    num_inference_steps: int
    look_back: int
    seed: int
    batches: Sequence[Batch]
    on_trial: Callable[[Schedule, float], None]

    def search(self) -> Search[Schedule]:
        """Search; the same losses lead to the same requests."""
        rng = np.random.default_rng(self.seed)
        best, value = yield from self._anneal(rng)
        for _ in range(MOST_DESCENTS):
            moves = self._neighbours(best)
            values = yield from self._errors(moves)
            if min(values, default=value) >= value:
                break
            index = int(np.argmin(values))
            best, value = moves[index], values[index]
        return best

    def _anneal(
        self, rng: np.random.Generator
    ) -> Generator[list[LossRequest], Losses, tuple[Schedule, float]]:
        """Return the best schedule that annealing passes by, and its error."""
        last = self.num_inference_steps - 1
        inner = rng.choice(np.arange(1, last), self.budget - 2, replace=False)
        current = self._schedule({0, last, *inner.tolist()})
        (value,) = yield from self._errors([current])
        best, best_value = current, value
        for iteration in range(ITERATIONS if self.budget > 2 else 0):
            candidate = self._moved(current, rng)
            (found,) = yield from self._errors([candidate])
            share = iteration / (ITERATIONS - 1)
            temperature = FIRST_TEMPERATURE * (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** share
            if found <= value or rng.random() < (value / found) ** (1 / temperature):
                current, value = candidate, found
            if value < best_value:
                best, best_value = current, value
        return best, best_value

    def _errors(self, schedules: Sequence[Schedule]) -> Asking:
        """Ask for schedules' mean errors over the pairs; one that is not finite is the worst."""
        losses = yield from losses_on(schedules, self.batches)
        means = [float(each.mean()) if np.isfinite(each).all() else np.inf for each in losses]
        for schedule, mean in zip(schedules, means, strict=True):
            self.on_trial(schedule, mean)
        return means

    def _schedule(self, computed: set[int]) -> Schedule:
        steps = sorted(computed)
        looks = np.where(np.diff(steps) > 1, self.look_back, 1)
        return Schedule(steps, self.num_inference_steps, looks.tolist())

    def _moved(self, schedule: Schedule, rng: np.random.Generator) -> Schedule:
        """Return the schedule with one or two of its inner steps elsewhere."""
        steps, last = set(schedule.computed_steps), self.num_inference_steps - 1
        for _ in range(int(rng.integers(1, 3))):
            old = int(rng.choice(sorted(steps - {0, last})))
            free = [
                step
                for step in range(1, last)
                if step not in steps and (abs(step - old) <= WINDOW or rng.random() < FAR)
            ]
            if free:
                steps = steps - {old} | {int(rng.choice(free))}
        return self._schedule(steps)

    def _neighbours(self, schedule: Schedule) -> list[Schedule]:
        """Return the schedules with one inner step moved by up to three."""
        steps, last = set(schedule.computed_steps), self.num_inference_steps - 1
        return [
            self._schedule(steps - {old} | {new})
            for old in schedule.computed_steps[1:-1]
            for new in range(max(1, old - WINDOW), min(last, old + WINDOW + 1))
            if new not in steps
        ]
