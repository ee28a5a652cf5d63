"""Fixtures of the parameters' tests: the built-in policies, an edge table, documents of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from example_documents import document_of, edges_of, published_of
from otcache_policies import EdgeTable

from otcache_plugin.plugins.host import PluginHost, load_plugins


@pytest.fixture(scope="session")
def host() -> PluginHost:
    """The built-in policies alone."""
    return load_plugins((), None)


@pytest.fixture(scope="session")
def edges() -> EdgeTable:
    """A table of 12 steps and three look-backs."""
    return edges_of(12)


@pytest.fixture
def content(edges: EdgeTable) -> dict[str, Any]:
    """A document of the table with schedules of budgets 4 and 8, as plain JSON values."""
    data: dict[str, Any] = json.loads(document_of(edges).to_json())
    return data


@pytest.fixture
def waypoint_content(edges: EdgeTable) -> dict[str, Any]:
    """The same with waypoints of budgets 5 and 7."""
    data: dict[str, Any] = json.loads(document_of(edges, waypoints=(5, 7)).to_json())
    return data


@pytest.fixture
def published_content() -> dict[str, Any]:
    """A document of published schedules, of budgets 4, 6 and 8."""
    data: dict[str, Any] = json.loads(published_of().to_json())
    return data
