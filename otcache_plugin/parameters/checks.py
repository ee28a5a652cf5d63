"""Checks that the documents of several policies share: of their schedules and of their tables."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otcache_policies import FieldError, Schedule, ScheduleError, same_sigmas
from otcache_registry import DocumentError
from otcache_registry.documents.files import TABLES_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from otcache_registry import Sampling, ScheduleRecord, Tables


@contextmanager
def said_of_the_document(kind: type[FieldError], part: str) -> Iterator[None]:
    """Turn an error about a part of a document into one about the document.

    Raises:
        DocumentError: The block raised an error of that kind; its field is below the part.
    """
    try:
        yield
    except kind as error:
        path = f"{part}.{error.field}"
        raise DocumentError(path, error.value, error.problem, error.remedy) from None


def schedules_of(
    records: Iterable[tuple[str, ScheduleRecord]], num_inference_steps: int
) -> tuple[Schedule, ...]:
    """Return the schedules of records, each after its field among the parameters.

    Raises:
        DocumentError: One of them is none of so many steps.
    """
    schedules = []
    for field, record in records:
        with said_of_the_document(ScheduleError, f"parameters.{field}"):
            schedules.append(record.schedule(num_inference_steps))
    return tuple(schedules)


def listed_schedules(
    records: Iterable[ScheduleRecord], num_inference_steps: int
) -> tuple[Schedule, ...]:
    """Return the schedules of the parameter `schedules`.

    Raises:
        DocumentError: One of them is none of so many steps.
    """
    fields = ((f"schedules.{index}", each) for index, each in enumerate(records))
    return schedules_of(fields, num_inference_steps)


def require_tensors(
    tables: Tables, allowed: Iterable[Mapping[str, Any]], problem: str, remedy: str
) -> None:
    """Raise DocumentError unless the tables' names and dtypes are among the allowed ones."""
    dtypes = {name: table.dtype for name, table in tables.items()}
    if dtypes not in allowed:
        found = {name: str(dtype) for name, dtype in dtypes.items()}
        raise DocumentError(TABLES_FILE, found, problem, remedy)


def refuse_tables(tables: Tables) -> None:
    """Raise DocumentError where a policy that has no tables is given some."""
    if tables:
        problem = "this policy has no tables"
        raise DocumentError("tables_sha256", sorted(tables), problem, "Leave them out")


def require_sampling_sigmas(sigmas: NDArray[np.float64], sampling: Sampling) -> None:
    """Raise DocumentError unless the tables' noise levels are the document's."""
    if sampling.sigmas is None or not same_sigmas(sigmas, sampling.sigmas):
        problem, remedy = "not the document's sampling.sigmas", "Use those that it was measured on"
        raise DocumentError("tables.sigmas", sigmas.tolist(), problem, remedy)
