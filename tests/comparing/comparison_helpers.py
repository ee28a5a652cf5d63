"""What the tests of the comparison share besides fixtures."""

from __future__ import annotations

STEPS = 20
PAIRS = 8


class SilentProgress:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}

    def start(self, stage: str, total: int) -> None:
        self.stages[stage] = [0, total]

    def advance(self) -> None:
        list(self.stages.values())[-1][0] += 1
