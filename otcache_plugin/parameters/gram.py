"""Parameters of the policy of Gram matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Self

from otcache_policies import GramPolicy, GramSettings, Schedule
from otcache_registry import Part, PolicyDetails, ScheduleRecord
from pydantic import Field

from otcache_plugin.parameters.checks import listed_schedules
from otcache_plugin.parameters.gram_tables import gram_table

if TYPE_CHECKING:
    from otcache_registry import PolicyDocument, Sampling, Tables

MAX_SCHEDULES = 100


class GramParameters(Part):
    """What a document of the policy "gram" holds besides its Gram matrices.

    Attributes:
        damping: From 0, the form as it is, to 1, where every segment counts alone.
        max_look_back: Largest look-back of a segment.
        schedules: Those that were found, by increasing budget.
    """

    damping: Annotated[float, Field(ge=0, le=1)]
    max_look_back: Annotated[int, Field(ge=1, le=100)]
    schedules: Annotated[
        tuple[ScheduleRecord, ...], Field(max_length=MAX_SCHEDULES, fail_fast=True)
    ] = ()

    @classmethod
    def of(cls, settings: GramSettings, schedules: Sequence[Schedule]) -> Self:
        """Return the parameters of a policy."""
        return cls(
            damping=settings.damping,
            max_look_back=settings.max_look_back,
            schedules=tuple(map(ScheduleRecord.of, schedules)),
        )

    def found(self, num_inference_steps: int) -> tuple[Schedule, ...]:
        """Return the schedules that were found.

        Raises:
            DocumentError: One of them is none of so many steps.
        """
        return listed_schedules(self.schedules, num_inference_steps)


def make(parameters: GramParameters, tables: Tables, sampling: Sampling) -> GramPolicy:
    """Make the policy of a document.

    Raises:
        DocumentError: The tables are no Gram matrices of its sampling set-up, or a schedule is none
            of its steps.
    """
    table = gram_table(tables, sampling)
    settings = GramSettings(parameters.damping, parameters.max_look_back)
    return GramPolicy(table, settings, parameters.found(sampling.num_inference_steps))


def describe(parameters: GramParameters, document: PolicyDocument) -> PolicyDetails:
    """Return a document's schedules, and how they were found."""
    schedules = parameters.found(document.num_inference_steps)
    return PolicyDetails(
        schedules=tuple(("minimised", schedule) for schedule in schedules),
        others="minimised",
        notes=(
            "Each is the best that was found by the quadratic form of the recorded velocities, "
            f"damped by {parameters.damping:g}. Other budgets are searched when asked for.",
        ),
    )
