"""Parameters of the policy of Gram matrices, and its tables: `grams`, `sigmas`, `response`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from otcache_policies import (
    GramPolicy,
    GramSettings,
    GramTable,
    GramTableError,
    Schedule,
)
from otcache_registry import DocumentError, Part, PolicyDetails, ScheduleRecord
from pydantic import Field

from otcache_plugin.parameters.checks import (
    require_sampling_sigmas,
    require_tensors,
    schedules_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from otcache_registry import PolicyDocument, Sampling, Tables

MAX_SCHEDULES = 100

_DTYPES = {"grams": np.dtype(np.float32), "sigmas": np.dtype(np.float64)}
_SOLVER_DTYPES = {**_DTYPES, "response": np.dtype(np.float64)}


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
        records = ((f"schedules.{index}", each) for index, each in enumerate(self.schedules))
        return schedules_of(records, num_inference_steps)


def tables_of(table: GramTable) -> Tables:
    """Return a Gram table's arrays by name."""
    tables: dict[str, NDArray[Any]] = {"grams": table.grams, "sigmas": table.sigmas}
    return tables if table.response is None else {**tables, "response": table.response}


def make(parameters: GramParameters, tables: Tables, sampling: Sampling) -> GramPolicy:
    """Make the policy of a document.

    Raises:
        DocumentError: The tables are no Gram matrices of its sampling set-up, or a schedule is none
            of its steps.
    """
    table = _gram_table(tables)
    require_sampling_sigmas(table.sigmas, sampling)
    settings = GramSettings(parameters.damping, parameters.max_look_back)
    return GramPolicy(table, settings, parameters.found(sampling.num_inference_steps))


def describe(parameters: GramParameters, document: PolicyDocument) -> PolicyDetails:
    """Return a document's schedules, and how they were found."""
    schedules = parameters.found(document.num_inference_steps)
    return PolicyDetails(
        schedules=tuple(("minimised", schedule) for schedule in schedules),
        notes=(
            "Each is the best that was found by the quadratic form of the recorded velocities, "
            f"damped by {parameters.damping:g}. Other budgets are searched when asked for.",
        ),
    )


def _gram_table(tables: Tables) -> GramTable:
    require_tensors(
        tables,
        (_DTYPES, _SOLVER_DTYPES),
        "not the tensors of Gram matrices",
        "It holds grams as float32, sigmas and perhaps response as float64, nothing else",
    )
    try:
        return GramTable(tables["grams"], tables["sigmas"], tables.get("response"))
    except GramTableError as error:
        path = f"tables.{error.field}"
        raise DocumentError(path, error.value, error.problem, error.remedy) from None
