"""DiCache (arXiv 2508.17356): the first blocks run at every step, and tell when the rest must."""

from __future__ import annotations

from typing import ClassVar

from otcache_policies._validation import as_int
from otcache_policies.deciding import after_blocks
from otcache_policies.errors import FieldError
from otcache_policies.thresholds import ThresholdPolicy, Thresholds

__all__ = ["DEEPEST", "DiCachePolicy"]

DEEPEST = 3
"""Most blocks that a probe runs."""


class DiCachePolicy(ThresholdPolicy):
    """Computes a step when the output of the first blocks has changed by a threshold.

    A cached step's residual is extrapolated from those of the last two computed steps.

    Args:
        depth: How many blocks the probe runs, 1 to 3.
        thresholds: By the budget to aim at.

    Raises:
        FieldError: The depth is not one of these.
    """

    name: ClassVar[str] = "dicache"
    look_back: ClassVar[int] = 2

    def __init__(self, depth: int, thresholds: Thresholds) -> None:
        remedy = f"Use 1 … {DEEPEST}"
        self.depth = as_int("depth", depth, FieldError, remedy)
        if not 1 <= self.depth <= DEEPEST:
            raise FieldError("depth", depth, "not a depth that a probe may have", remedy)
        super().__init__(thresholds)

    @property
    def observes(self) -> str:
        """The output of the probe's blocks."""
        return after_blocks(self.depth)
