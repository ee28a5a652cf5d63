"""The policy keeps every promise of a policy, and is what it says it is."""

from __future__ import annotations

import pytest
from otcache_front_loaded import FrontLoadedPolicy
from otcache_policies.testing import PolicyConformance


class TestFrontLoadedPolicy(PolicyConformance):
    def make_policy(self, num_inference_steps: int) -> FrontLoadedPolicy:
        return FrontLoadedPolicy(num_inference_steps)


@pytest.mark.parametrize("budget", [5, 10, 25])
def test_gaps_never_shrink(budget: int) -> None:
    gaps = FrontLoadedPolicy(50).schedule(budget).gaps
    assert list(gaps) == sorted(gaps)
    assert gaps[0] < gaps[-1]


def test_by_hand() -> None:
    # 9 * (i / 3) ** 2 = 0, 1, 4, 9
    assert FrontLoadedPolicy(10, power=2).schedule(4).computed_steps == (0, 1, 4, 9)
