"""LeMiCa's parameters and tables: which path through the outcome table is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from otcache_policies import LeMiCaPolicy, OutcomeTable, OutcomeTableError
from otcache_policies.lemica import PathRule
from otcache_registry import DocumentError, Part, PolicyDetails

from otcache_plugin.parameters.checks import require_tensors, said_of_the_document

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from otcache_registry import PolicyDocument, Sampling, Tables

_DTYPES = {"errors": np.dtype(np.float32)}
_LOOKING_BACK = {**_DTYPES, "look_backs": np.dtype(np.uint8)}

PATHS = {
    "minimax": "whose worst segments do the least to the outcome",
    "shortest": "whose segments do the least to the outcome in the sum",
}


class LeMiCaParameters(Part):
    """What a document of the policy "lemica" holds besides its outcome table.

    Attributes:
        path: Which path through the table is the best: by its worst edges, or by their sum.
    """

    path: PathRule

    @classmethod
    def of(cls, policy: LeMiCaPolicy) -> Self:
        """Return the parameters of a policy."""
        return cls(path=policy.path)


def tables_of(table: OutcomeTable) -> Tables:
    """Return an outcome table's arrays by name."""
    tables: dict[str, NDArray[Any]] = {"errors": table.errors}
    return tables if table.look_backs is None else {**tables, "look_backs": table.look_backs}


def make(parameters: LeMiCaParameters, tables: Tables, sampling: Sampling) -> LeMiCaPolicy:
    """Make the policy of a document.

    Raises:
        DocumentError: The tables are no outcome table of its steps.
    """
    require_tensors(
        tables,
        (_DTYPES, _LOOKING_BACK),
        "not the tensors of an outcome table",
        "It holds errors as float32 and perhaps look_backs as uint8, nothing else",
    )
    with said_of_the_document(OutcomeTableError, "tables"):
        table = OutcomeTable(tables["errors"], tables.get("look_backs"))
    total = sampling.num_inference_steps
    if table.num_inference_steps != total:
        problem, remedy = f"not of the document's {total} steps", f"Use {total} by {total} numbers"
        raise DocumentError("tables.errors", table.errors.shape, problem, remedy)
    return LeMiCaPolicy(table, parameters.path)


def describe(parameters: LeMiCaParameters, document: PolicyDocument) -> PolicyDetails:
    """Return how a document's schedules follow from its table."""
    path = PATHS[parameters.path]
    return PolicyDetails(
        others=f"{parameters.path} path",
        notes=(f"Every budget's schedule is the path {path}, each cached alone and measured.",),
    )
