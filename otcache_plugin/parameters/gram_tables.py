"""Gram tables as a document's tables: `grams`, `sigmas`, and `response` of solvers but Euler's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from otcache_policies import GramTable, GramTableError

from otcache_plugin.parameters.checks import (
    require_sampling_sigmas,
    require_tensors,
    said_of_the_document,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from otcache_registry import Sampling, Tables

_DTYPES = {"grams": np.dtype(np.float32), "sigmas": np.dtype(np.float64)}
_SOLVER_DTYPES = {**_DTYPES, "response": np.dtype(np.float64)}

_OF_GRAMS_ALONE = ("grams", "response")
_GRAM_TABLES = (*_OF_GRAMS_ALONE, "sigmas")
"""Gram matrices share the noise levels with the edge table of the same document."""


def split(tables: Tables) -> tuple[Tables | None, Tables]:
    """Return the tables of the Gram matrices, if they are there, and those of the edges."""
    if "grams" not in tables:
        return None, tables
    gram = {name: tables[name] for name in _GRAM_TABLES if name in tables}
    return gram, {name: table for name, table in tables.items() if name not in _OF_GRAMS_ALONE}


def tables_of(table: GramTable) -> Tables:
    """Return a Gram table's arrays by name."""
    tables: dict[str, NDArray[Any]] = {"grams": table.grams, "sigmas": table.sigmas}
    return tables if table.response is None else {**tables, "response": table.response}


def gram_table(tables: Tables, sampling: Sampling) -> GramTable:
    """Return the Gram table that a document's tables are.

    Raises:
        DocumentError: They are no Gram matrices, or not of the document's sampling set-up.
    """
    require_tensors(
        tables,
        (_DTYPES, _SOLVER_DTYPES),
        "not the tensors of Gram matrices",
        "It holds grams as float32, sigmas and perhaps response as float64, nothing else",
    )
    with said_of_the_document(GramTableError, "tables"):
        table = GramTable(tables["grams"], tables["sigmas"], tables.get("response"))
    require_sampling_sigmas(table.sigmas, sampling)
    return table
