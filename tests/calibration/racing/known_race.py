"""A race without any model: velocities are drawn, losses are given by formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from otcache_policies import EdgeTable, GramTable, Schedule
from otcache_policies.displacement import Candidates, euler_response, increments

from otcache_plugin.calibration.racing.candidates import Recorded
from otcache_plugin.calibration.racing.plan import RacePlan
from otcache_plugin.calibration.racing.race import Race
from otcache_plugin.calibration.searching.graph_and_rho import graph_candidates
from otcache_plugin.plugins.measured import DisplacedRun

STEPS, PAIRS, ELEMENTS = 12, 16, 24
BUDGETS = range(4, 8)
PLAN = RacePlan(STEPS, PAIRS, BUDGETS)
SIGMAS = np.linspace(1.0, 0.0, STEPS + 1) ** 1.5

Loss = Callable[[Schedule, int], float]
"""Of a schedule and a pair."""


def drawn_velocities() -> NDArray[np.float64]:
    """Of every pair, step and element; they change smoothly from step to step."""
    rng = np.random.default_rng(0)
    waves = np.arange(6)[:, None]
    phases = rng.uniform(0, 2 * np.pi, (PAIRS, 6, 1))
    shapes = np.cos(np.pi * waves * np.linspace(0, 1, STEPS) + phases) / (1 + waves)
    found: NDArray[np.float64] = np.einsum(
        "pwt,pwe->pte", shapes, rng.normal(size=(PAIRS, 6, ELEMENTS))
    )
    return found


VELOCITIES = drawn_velocities()


def known_recording(edges: EdgeTable) -> Recorded:
    """What a recording says: the Gram matrices of the searching pairs, and given edges."""
    own = VELOCITIES[: len(PLAN.searching)]
    table = GramTable(own @ own.transpose(0, 2, 1) / ELEMENTS, SIGMAS)
    return Recorded(table, graph_candidates(edges))


def displaced(schedule: Schedule, pairs: range) -> NDArray[np.float64]:
    """Where a schedule leads if the model is linear."""
    added = increments(Candidates.of([schedule]), SIGMAS, euler_response(SIGMAS))[0].sum(axis=0)
    own = VELOCITIES[pairs.start : pairs.stop]
    found: NDArray[np.float64] = np.einsum("t,nte->ne", added, own) / np.sqrt(ELEMENTS)
    return found


class KnownContext:
    """A calibration's context whose losses and ends are known; keeps what it was asked for.

    Args:
        loss: of a schedule on a pair.
        gain: what is left at the end of every displacement.
        off: what a schedule's displacement is multiplied by besides, for reasons of its own.
    """

    num_inference_steps = STEPS
    metric = "psnr"

    def __init__(
        self, loss: Loss, gain: float = 1.0, off: Callable[[Schedule], float] = lambda each: 1.0
    ) -> None:
        self._loss, self._gain, self._off = loss, gain, off
        self.stage = ""
        self.asked: list[tuple[str, Schedule, range]] = []
        self.announced: dict[str, list[tuple[Schedule, range]]] = {}

    @property
    def denoising_steps(self) -> int:
        """Every run takes its budget, once; nothing is replayed."""
        asked = {(schedule, pairs) for _, schedule, pairs in self.asked}
        return sum(schedule.budget * len(pairs) for schedule, pairs in asked)

    def start_search(self, stage: str, trials: int) -> None:
        self.stage = stage

    def start_runs(self, stage: str, requests: Sequence[tuple[Schedule, range]]) -> None:
        self.stage = stage
        self.announced[stage] = list(requests)

    def advance(self) -> None:
        pass

    def velocities(self, pairs: range) -> NDArray[np.float32]:
        assert set(pairs) <= set(PLAN.searching)
        found = VELOCITIES[pairs.start : pairs.stop] / np.sqrt(ELEMENTS)
        return found.astype(np.float32)

    def displaced(self, requests: Sequence[tuple[Schedule, range]]) -> list[DisplacedRun]:
        self.asked += [(self.stage, schedule, pairs) for schedule, pairs in requests]
        return [self._run(schedule, pairs) for schedule, pairs in requests]

    def _run(self, schedule: Schedule, pairs: range) -> DisplacedRun:
        losses = np.array([self._loss(schedule, pair) for pair in pairs])
        ends = self._gain * self._off(schedule) * displaced(schedule, pairs)
        return DisplacedRun(schedule, pairs, losses, ends.astype(np.float32))

    def schedules(self, stage: str, budget: int) -> list[Schedule]:
        """What was run in a stage, of a budget."""
        return [each for at, each, _ in self.asked if at == stage and each.budget == budget]


class RecordedContext(KnownContext):
    """Gives recordings, too: edges of all pairs, and Gram matrices of the searching ones."""

    def __init__(self, edges: EdgeTable, loss: Loss) -> None:
        super().__init__(loss)
        self._edges = edges

    def edges(self, pairs: range | None = None) -> EdgeTable:
        assert pairs is None, "edges of some pairs would give other schedules"
        return self._edges

    def grams(self, pairs: range | None = None) -> GramTable:
        assert pairs == PLAN.searching
        return known_recording(self._edges).table


def race_of(
    edges: EdgeTable, loss: Loss, gain: float = 1.0, plan: RacePlan = PLAN
) -> tuple[Race, KnownContext]:
    """A race whose losses are known, and the context that it will ask."""
    context: Any = KnownContext(loss, gain)
    return Race(plan, known_recording(edges), context), context
