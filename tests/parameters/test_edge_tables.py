"""An edge table is a document's arrays by name; others are refused with what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from example_documents import document_of, edges_of
from otcache_policies import EdgeTable
from otcache_registry import DocumentError, Tables, tables_bytes, tables_digest
from otcache_registry.documents.tables import parse_tables

from otcache_plugin.parameters.edge_tables import edge_table, tables_of

MakeEdges = Callable[[int], EdgeTable]
SAMPLING = document_of(edges_of(12)).sampling


def with_spread(edges: EdgeTable) -> EdgeTable:
    """The table with a spread that is half the error."""
    errors = edges.velocity_errors
    spread = np.where(np.isfinite(errors), errors / 2, 0)
    return EdgeTable(errors, edges.sigmas, spread)


def test_there_and_back(edges: EdgeTable) -> None:
    again = edge_table(parse_tables(tables_bytes(tables_of(edges))), SAMPLING)
    np.testing.assert_array_equal(again.velocity_errors, edges.velocity_errors)
    np.testing.assert_array_equal(again.sigmas, edges.sigmas)
    assert again.spread is None


def test_a_spread_is_kept(edges: EdgeTable) -> None:
    tables = tables_of(with_spread(edges))
    again = edge_table(parse_tables(tables_bytes(tables)), SAMPLING)
    assert again.spread is not None
    assert again.spread[0, 2, 0] == edges.velocity_errors[0, 2, 0] / 2 > 0
    assert {name: str(table.dtype) for name, table in tables.items()} == {
        "velocity_errors": "float32",
        "sigmas": "float64",
        "spread": "float32",
    }
    assert tables_digest(tables) != tables_digest(tables_of(edges))


def tensors(total: int = 12, **changes: Any) -> Tables:
    return {**tables_of(edges_of(total)), **changes}


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("tables", "field", "words"),
    [
        (tensors(extra=zeros(1)), "tables.safetensors", "not the tensors"),
        ({"sigmas": edges_of(12).sigmas}, "tables.safetensors", "not the tensors"),
        (tensors(sigmas=zeros(13)), "tables.safetensors", "float64"),
        (tensors(13), "tables.velocity_errors", "shape (12, 12, K)"),
        (
            tensors(velocity_errors=zeros(12, 12)),
            "tables.velocity_errors",
            "not of shape (T, T, K)",
        ),
        (tensors(sigmas=np.arange(12.0)), "tables.sigmas", "12 entries, not 13"),
        (tensors(sigmas=edges_of(12).sigmas * 0.9), "tables.sigmas", "not the document's"),
        (
            tensors(velocity_errors=zeros(12, 12, 3)),
            "tables.velocity_errors[0, 0, 0]",
            "must be +inf",
        ),
        (tensors(spread=np.zeros((12, 12, 3))), "tables.safetensors", "spread as float32"),
        (
            tensors(spread=zeros(12, 12, 2)),
            "tables.spread",
            "not of the velocity errors' shape (12, 12, 3)",
        ),
        (tensors(spread=zeros(12, 12, 3) + 1), "tables.spread[0, 0, 0]", "must be 0"),
    ],
    ids=[
        "extra",
        "lacking",
        "dtype",
        "steps",
        "two-dimensional",
        "few-sigmas",
        "other-sigmas",
        "no-infinity",
        "spread-dtype",
        "spread-shape",
        "spread-without-edge",
    ],
)
def test_tables_that_do_not_belong_to_the_document(tables: Tables, field: str, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        edge_table(tables, SAMPLING)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_sigmas_may_differ_in_the_last_digits() -> None:
    edge_table(tensors(sigmas=edges_of(12).sigmas + 1e-7), SAMPLING)
