"""Whom the policies over an edge table are measured beside.

Peers run on the same executor with the look-back rule that was tuned for the graph policy, so that
what is compared is where the computed steps lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from otcache_policies import Schedule, UniformPolicy

from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from otcache_policies import EdgeSettings, EdgeTable, MeanCachePolicy, OTCachePolicy
    from otcache_registry import StoredPolicy

PEERS = ("uniform", "meancache", "otcache")
"""Weakest first."""


def policies_of(stored: StoredPolicy) -> tuple[OTCachePolicy, MeanCachePolicy]:
    """Return the two policies that an OTCache document makes.

    Raises:
        DocumentError: it is none, or one of published schedules, which make no shortest path.
    """
    host = plugin_host()
    otcache, meancache = (host.policy_of(stored, name) for name in ("otcache", "meancache"))
    return cast("OTCachePolicy", otcache), cast("MeanCachePolicy", meancache)


def evenly(edges: EdgeTable, settings: EdgeSettings) -> Callable[[int], Schedule]:
    """Return evenly spaced steps with the look-backs that the edge table has for them."""
    policy = UniformPolicy(edges.num_inference_steps)

    def uniform(budget: int) -> Schedule:
        schedule = policy.schedule(budget)
        return schedule.with_look_backs(edges.look_backs(schedule.computed_steps, settings))

    return uniform


def peers(
    otcache: OTCachePolicy, meancache: MeanCachePolicy
) -> dict[str, Callable[[int], Schedule]]:
    """Return each policy's schedule of a budget, weakest first."""
    uniform = evenly(meancache.edges, meancache.settings)
    return dict(zip(PEERS, (uniform, meancache.schedule, otcache.schedule), strict=True))
