"""Fixtures of the registry tests: an edge table, a document that belongs to it, both on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from example_documents import document_of, edges_of, published_of, unknown_of
from otcache_policies import EdgeTable
from otcache_registry import PolicyDocument, Tables, write_policy

from otcache_plugin.parameters.edge_tables import tables_of

CARD = "# The card\n"


@pytest.fixture(scope="session")
def make_edges() -> Callable[[int], EdgeTable]:
    """Return a factory of edge tables with three look-backs, by number of steps."""
    return edges_of


@pytest.fixture(scope="session")
def make_document() -> Callable[..., PolicyDocument]:
    """Return a factory of valid documents for a table, with fields changed by keyword."""
    return document_of


@pytest.fixture(scope="session")
def make_published() -> Callable[..., PolicyDocument]:
    """Return a factory of valid documents of published schedules, with fields changed."""
    return published_of


@pytest.fixture(scope="session")
def valid_edges() -> EdgeTable:
    """A table of 12 steps and three look-backs."""
    return edges_of(12)


@pytest.fixture(scope="session")
def valid_tables(valid_edges: EdgeTable) -> Tables:
    """The table as the arrays of a document."""
    return tables_of(valid_edges)


@pytest.fixture(scope="session")
def valid_document(valid_edges: EdgeTable) -> PolicyDocument:
    """A document that belongs to the table."""
    return document_of(valid_edges)


@pytest.fixture(scope="session")
def waypoint_document(valid_edges: EdgeTable) -> PolicyDocument:
    """The same with waypoints, MeanCache's schedules of budgets 5 and 7."""
    return document_of(valid_edges, waypoints=(5, 7))


@pytest.fixture(scope="session")
def published_document() -> PolicyDocument:
    """A document of published schedules."""
    return published_of()


@pytest.fixture(scope="session")
def unknown_document() -> PolicyDocument:
    """A document of a policy that nobody has installed, of the tables `UNKNOWN_TABLES`."""
    return unknown_of()


@pytest.fixture
def content(valid_document: PolicyDocument) -> dict[str, Any]:
    """The document as plain JSON values, to be changed at will."""
    data: dict[str, Any] = json.loads(valid_document.to_json())
    return data


@pytest.fixture
def waypoint_content(waypoint_document: PolicyDocument) -> dict[str, Any]:
    """The document with waypoints as plain JSON values."""
    data: dict[str, Any] = json.loads(waypoint_document.to_json())
    return data


@pytest.fixture
def published_content(published_document: PolicyDocument) -> dict[str, Any]:
    """The document of published schedules as plain JSON values."""
    data: dict[str, Any] = json.loads(published_document.to_json())
    return data


@pytest.fixture
def policy_folder(tmp_path: Path, valid_document: PolicyDocument, valid_tables: Tables) -> Path:
    """A folder with the document, its table, a card and a figure."""
    folder = tmp_path / "policy"
    write_policy(folder, valid_document, valid_tables, CARD, {"schedules.png": b"\x89PNG"})
    return folder
