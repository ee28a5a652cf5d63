"""Parameters of policies whose schedules were searched at some budgets: "budcache" and "direct"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Self

from otcache_policies import Schedule, ScheduleError, SearchedPolicy
from otcache_registry import Part, PolicyDetails, ScheduleRecord
from pydantic import Field

from otcache_plugin.parameters.checks import listed_schedules, refuse_tables, said_of_the_document

if TYPE_CHECKING:
    from otcache_registry import PolicyDocument, Sampling, Tables

MAX_SCHEDULES = 100


class SearchedParameters(Part):
    """What a document of searched schedules holds. It has no tables.

    Attributes:
        schedules: Those that were found, by increasing budget.
    """

    schedules: Annotated[
        tuple[ScheduleRecord, ...],
        Field(min_length=1, max_length=MAX_SCHEDULES, fail_fast=True),
    ]

    @classmethod
    def of(cls, schedules: Sequence[Schedule]) -> Self:
        """Return the parameters of a policy."""
        return cls(schedules=tuple(map(ScheduleRecord.of, schedules)))

    def found(self, num_inference_steps: int) -> tuple[Schedule, ...]:
        """Return the schedules that were found.

        Raises:
            DocumentError: One of them is none of so many steps.
        """
        return listed_schedules(self.schedules, num_inference_steps)


def make(
    name: str, parameters: SearchedParameters, tables: Tables, sampling: Sampling
) -> SearchedPolicy:
    """Make the policy of a document.

    Args:
        name: of the policy.
        parameters: of the document.
        tables: of the document, which has none.
        sampling: of the document.

    Raises:
        DocumentError: There are tables, a schedule is none of its steps, or their budgets do not
            increase.
    """
    refuse_tables(tables)
    with said_of_the_document(ScheduleError, "parameters"):
        return SearchedPolicy(parameters.found(sampling.num_inference_steps), name)


def describe(parameters: SearchedParameters, document: PolicyDocument) -> PolicyDetails:
    """Return a document's schedules."""
    found = parameters.found(document.num_inference_steps)
    return PolicyDetails(
        schedules=tuple(("searched", schedule) for schedule in found),
        others="predicted",
        notes=(
            "Each was searched on its own. Budgets between two of them are predicted from both, "
            "and were not searched.",
        ),
    )
