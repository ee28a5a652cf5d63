"""MeanCache's documents, and those of OTCache that serve it as well."""

from __future__ import annotations

import pytest
from example_documents import document_of, published_of
from otcache_policies import EdgeSettings, EdgeTable, MeanCachePolicy
from otcache_registry import (
    DocumentError,
    GraphSettings,
    PolicyDocument,
    PolicyIdentity,
    ServedBudgets,
    StoredPolicy,
)

from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.parameters.meancache import MeanCacheParameters
from otcache_plugin.plugins.host import PluginHost

SETTINGS = EdgeSettings("velocity", 4.0, 2)


def meancache_document(edges: EdgeTable) -> PolicyDocument:
    """A document of MeanCache, which was calibrated at no budget more than at others."""
    return document_of(
        edges,
        policy=PolicyIdentity(name="meancache", distribution="otcache-plugin"),
        budgets=ServedBudgets(smallest=2, largest=12),
        parameters={"graph": GraphSettings.of(SETTINGS).model_dump()},
    )


def test_its_own_document(host: PluginHost, edges: EdgeTable) -> None:
    document = PolicyDocument.from_json(meancache_document(edges).to_json())
    policy = host.policy_of(StoredPolicy(document, tables_of(edges), "here"))
    expected = MeanCachePolicy(edges, SETTINGS)
    assert isinstance(policy, MeanCachePolicy)
    assert policy.settings == SETTINGS
    for budget in range(2, 13):
        assert policy.schedule(budget) == expected.schedule(budget)
    assert MeanCacheParameters.of(policy).model_dump() == document.parameters


def test_an_otcache_document_serves_it_too(host: PluginHost, edges: EdgeTable) -> None:
    stored = StoredPolicy(document_of(edges), tables_of(edges), "here")
    policy = host.policy_of(stored, "meancache")
    expected = MeanCachePolicy(edges, EdgeSettings("displacement", 2.0))
    assert policy.name == "meancache"
    assert policy.schedule(6) == expected.schedule(6)
    assert host.serving("meancache") == ("meancache", "otcache")
    assert host.serving("otcache") == ("otcache",)
    assert host.serving("uniform") == ()


def test_its_document_does_not_serve_otcache(host: PluginHost, edges: EdgeTable) -> None:
    stored = StoredPolicy(meancache_document(edges), tables_of(edges), "here")
    with pytest.raises(DocumentError, match=r"no document of the policy 'otcache'") as caught:
        host.policy_of(stored, "otcache")
    assert (caught.value.field, caught.value.value) == ("policy.name", "meancache")
    assert "It takes those of: otcache" in str(caught.value)


def test_published_schedules_make_no_shortest_path(host: PluginHost) -> None:
    with pytest.raises(DocumentError, match="make no shortest path") as caught:
        host.policy_of(StoredPolicy(published_of(), {}, "here"), "meancache")
    assert caught.value.field == "tables_sha256"


def test_a_document_without_a_table(host: PluginHost, edges: EdgeTable) -> None:
    document = meancache_document(edges).model_copy(update={"tables_sha256": None})
    with pytest.raises(DocumentError, match="needs an edge table") as caught:
        host.policy_of(StoredPolicy(document, {}, "here"))
    assert caught.value.field == "tables_sha256"
