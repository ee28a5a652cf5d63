"""The built-in policies of a document, whatever else is installed."""

from __future__ import annotations

from otcache_policies import MeanCachePolicy, OTCachePolicy, Schedule
from otcache_registry import StoredPolicy

from otcache_plugin.plugins.host import load_plugins

HOST = load_plugins((), None)


def otcache_of(stored: StoredPolicy) -> OTCachePolicy:
    """Make the OTCache policy of one of its documents."""
    policy = HOST.policy_of(stored)
    assert isinstance(policy, OTCachePolicy)
    return policy


def meancache_of(stored: StoredPolicy) -> MeanCachePolicy:
    """Make the MeanCache policy of one of its documents, or of OTCache's."""
    policy = HOST.policy_of(stored, "meancache")
    assert isinstance(policy, MeanCachePolicy)
    return policy


def schedules_of(stored: StoredPolicy) -> tuple[Schedule, ...]:
    """Return the schedules that an OTCache document holds: anchor, waypoints, reference."""
    return otcache_of(stored).calibrated
