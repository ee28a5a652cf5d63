"""Edge tables as a document's tables: `sigmas`, `velocity_errors`, and `spread` if measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from otcache_policies import EdgeTable, EdgeTableError, same_sigmas
from otcache_registry import DocumentError
from otcache_registry.documents.files import TABLES_FILE

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
    dtypes = {name: table.dtype for name, table in tables.items()}
    if dtypes not in (_DTYPES, _SPREAD_DTYPES):
        found = {name: str(dtype) for name, dtype in dtypes.items()}
        remedy = "It holds velocity_errors and spread as float32, sigmas as float64, nothing else"
        raise DocumentError(TABLES_FILE, found, "not the tensors of an edge table", remedy)
    try:
        edges = EdgeTable(tables["velocity_errors"], tables["sigmas"], tables.get("spread"))
    except EdgeTableError as error:
        path = f"tables.{error.field}"
        raise DocumentError(path, error.value, error.problem, error.remedy) from None
    total, sigmas = sampling.num_inference_steps, sampling.sigmas
    if edges.num_inference_steps != total:
        shape, remedy = edges.velocity_errors.shape, f"Use a table of shape ({total}, {total}, K)"
        problem = f"not of the document's {total} steps"
        raise DocumentError("tables.velocity_errors", shape, problem, remedy)
    if sigmas is None or not same_sigmas(edges.sigmas, sigmas):
        problem, remedy = "not the document's sampling.sigmas", "Use those that it was measured on"
        raise DocumentError("tables.sigmas", edges.sigmas.tolist(), problem, remedy)
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
