"""Edge tables as a document's tables: `sigmas`, `velocity_errors`, and `spread` if measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from otcache_policies import EdgeTable, EdgeTableError
from otcache_registry import DocumentError

from otcache_plugin.parameters.checks import (
    require_sampling_sigmas,
    require_tensors,
    said_of_the_document,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from otcache_policies import EdgeSettings
    from otcache_registry import GraphSettings, Sampling, Tables

_DTYPES = {"sigmas": np.dtype(np.float64), "velocity_errors": np.dtype(np.float32)}
_SPREAD_DTYPES = {**_DTYPES, "spread": np.dtype(np.float32)}


def tables_of(edges: EdgeTable) -> Tables:
    """Return an edge table's arrays by name."""
    tables: dict[str, NDArray[Any]] = {
        "sigmas": edges.sigmas,
        "velocity_errors": edges.velocity_errors,
    }
    if edges.spread is not None:
        tables["spread"] = edges.spread
    return tables


def edge_table(tables: Tables, sampling: Sampling) -> EdgeTable:
    """Return the edge table that a document's tables are.

    Args:
        tables: The document's tables.
        sampling: The document's sampling set-up, which they have to be of.

    Raises:
        DocumentError: They are no edge table, or one of other steps or sigmas.
    """
    require_tensors(
        tables,
        (_DTYPES, _SPREAD_DTYPES),
        "not the tensors of an edge table",
        "It holds velocity_errors and spread as float32, sigmas as float64, nothing else",
    )
    with said_of_the_document(EdgeTableError, "tables"):
        edges = EdgeTable(tables["velocity_errors"], tables["sigmas"], tables.get("spread"))
    total = sampling.num_inference_steps
    if edges.num_inference_steps != total:
        shape, remedy = edges.velocity_errors.shape, f"Use a table of shape ({total}, {total}, K)"
        problem = f"not of the document's {total} steps"
        raise DocumentError("tables.velocity_errors", shape, problem, remedy)
    require_sampling_sigmas(edges.sigmas, sampling)
    return edges


def graph_settings(graph: GraphSettings, edges: EdgeTable) -> EdgeSettings:
    """Return how a document's edge table is read.

    Raises:
        DocumentError: By a look-back that the table does not have.
    """
    if graph.look_back is not None and graph.look_back > edges.max_look_back:
        problem, remedy = "not in the edge table", f"Use null, or 1 … {edges.max_look_back}"
        raise DocumentError("parameters.graph.look_back", graph.look_back, problem, remedy)
    return graph.edge_settings()
