"""Schedules of neighbouring budgets of the bundled documents, and how far they are apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from otcache_policies import OTCachePolicy, Schedule, lift
from otcache_registry.documents.bundled import bundled_names, read_bundled

from otcache_plugin.plugins.host import plugin_host

ROUNDING = 0.5
"""In steps: what rounding the gaps of two schedules moves their curves, on average."""


def apart(one: Schedule, other: Schedule) -> float:
    """Return the Wasserstein distance of two schedules, in steps."""
    return float(np.abs(lift(one) - lift(other)).mean()) * (one.num_inference_steps - 1)


def largest_excess(policy: OTCachePolicy) -> float:
    """Return by how much neighbouring budgets differ more than the calibrated around them."""
    return max(
        apart(policy.schedule(budget), policy.schedule(budget + 1)) - apart(smaller, larger)
        for smaller, larger in pairwise(policy.calibrated)
        for budget in range(smaller.budget, larger.budget)
    )


@pytest.mark.parametrize("name", bundled_names())
def test_neighbouring_budgets_never_jump_by_more_than_the_calibrated_differ(name: str) -> None:
    policy = plugin_host().policy_of(read_bundled(name))
    assert isinstance(policy, OTCachePolicy)
    assert largest_excess(policy) <= ROUNDING
