"""MeanCache's parameters: how its edge table is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from otcache_policies import MeanCachePolicy
from otcache_registry import DocumentError, GraphSettings, Part

from otcache_plugin.parameters.edge_tables import edge_table, graph_settings
from otcache_plugin.parameters.gram_tables import split

if TYPE_CHECKING:
    from otcache_registry import Sampling, Tables

    from otcache_plugin.parameters.otcache import OTCacheParameters


class MeanCacheParameters(Part):
    """What a document of the policy "meancache" holds besides its edge table.

    Attributes:
        graph: How to read the edge table.
    """

    graph: GraphSettings

    @classmethod
    def of(cls, policy: MeanCachePolicy) -> Self:
        """Return the parameters of a policy."""
        return cls(graph=GraphSettings.of(policy.settings))


def make(parameters: MeanCacheParameters, tables: Tables, sampling: Sampling) -> MeanCachePolicy:
    """Make the policy of a document.

    Raises:
        DocumentError: The tables are no edge table of this sampling set-up, or there are none.
    """
    if not tables:
        problem = "a shortest path needs an edge table"
        raise DocumentError("tables_sha256", None, problem, "Calibrate the model")
    # A document of OTCache may hold Gram matrices besides.
    edges = edge_table(split(tables)[1], sampling)
    return MeanCachePolicy(edges, graph_settings(parameters.graph, edges))


def from_otcache(parameters: OTCacheParameters) -> MeanCacheParameters:
    """Return the parameters of the graph policy that an OTCache document rests on.

    Raises:
        DocumentError: It rests on none: its schedules were published without an edge table.
    """
    if parameters.graph is None:
        problem = "published schedules without an edge table make no shortest path"
        remedy = "Use policy='otcache', or calibrate the model"
        raise DocumentError("tables_sha256", None, problem, remedy)
    return MeanCacheParameters(graph=parameters.graph)
