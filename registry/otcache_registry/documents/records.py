"""Records of what policies are made of: schedules, and the settings that an edge table is read by.

The parameters of any policy may hold them, so that they look alike in all documents.
"""

from __future__ import annotations

from typing import Annotated, Self

from otcache_policies import EdgeSettings, Schedule
from otcache_policies.edges import Cost
from otcache_registry.documents.values import (
    MAX_INFERENCE_STEPS,
    Count,
    LookBack,
    Part,
    Positive,
)
from pydantic import Field

__all__ = ["GraphSettings", "ScheduleRecord"]


class ScheduleRecord(Part):
    """A schedule, for the number of steps that the document's sampling set-up names.

    Attributes:
        computed_steps: Strictly increasing steps from 0 to T-1, both included.
        look_backs: One look-back >= 1 per segment.
    """

    computed_steps: Annotated[
        tuple[Count, ...], Field(max_length=MAX_INFERENCE_STEPS, fail_fast=True)
    ]
    look_backs: Annotated[
        tuple[LookBack, ...], Field(max_length=MAX_INFERENCE_STEPS, fail_fast=True)
    ]

    @classmethod
    def of(cls, schedule: Schedule) -> Self:
        """Return the record of a schedule."""
        return cls(computed_steps=schedule.computed_steps, look_backs=schedule.look_backs)

    @property
    def budget(self) -> int:
        """Number of computed steps."""
        return len(self.computed_steps)

    def schedule(self, num_inference_steps: int) -> Schedule:
        """Return the schedule.

        Raises:
            ScheduleError: It is not one for this number of steps.
        """
        return Schedule(self.computed_steps, num_inference_steps, self.look_backs)


class GraphSettings(Part):
    """How the document's edge table is read; `otcache_policies.EdgeSettings` as a record."""

    cost: Cost
    gamma: Positive
    look_back: LookBack | None

    @classmethod
    def of(cls, settings: EdgeSettings) -> Self:
        """Return the record of settings."""
        return cls(cost=settings.cost, gamma=settings.gamma, look_back=settings.look_back)

    def edge_settings(self) -> EdgeSettings:
        """Return the settings."""
        return EdgeSettings(self.cost, self.gamma, self.look_back)
