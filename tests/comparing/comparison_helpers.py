"""What the tests of the comparison share besides fixtures."""

from __future__ import annotations

from collections.abc import Sequence

from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.plugins.costs import StageCost

STEPS = 20
PAIRS = 8
BUDGETS = (8, 10, 15)
METHODS = ("otcache", "meancache", "uniform")


class SilentProgress(Unwatched):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}
        self.planned: Sequence[StageCost] = ()
        self.steps: dict[str, int] = {}
        self.before = 0

    def plan(self, stages: Sequence[StageCost], part: float = 1.0) -> None:
        self.planned = stages

    def start(self, stage: str, total: int) -> None:
        self.stages[stage] = [0, total]
        self.steps[stage] = 0

    def advance(self, steps: int = 0, before: bool = False) -> None:
        stage = list(self.stages)[-1]
        self.stages[stage][0] += 1
        self.ran(steps, before)

    def ran(self, steps: int, before: bool = False) -> None:
        self.steps[list(self.stages)[-1]] += steps
        self.before += steps if before else 0
