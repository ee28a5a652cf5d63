"""Every built-in policy passes the published suite, and the suite finds what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from otcache_policies import (
    Budgets,
    EdgeSettings,
    EdgeTable,
    MeanCachePolicy,
    OTCachePolicy,
    Policy,
    Schedule,
    UniformPolicy,
)
from otcache_policies.testing import DecidingPolicyConformance, PolicyConformance


def random_table(total: int) -> EdgeTable:
    rng = np.random.default_rng(total)
    errors = rng.uniform(0.1, 2.0, (total, total, 6))
    start, end = np.indices((total, total))
    errors[end <= start] = np.inf
    errors[end == start + 1] = 0
    return EdgeTable(errors, np.linspace(1, 0, total + 1))


class TestUniform(PolicyConformance):
    steps_to_try = (1, 2, 12, 50)

    def make_policy(self, num_inference_steps: int) -> Policy:
        return UniformPolicy(num_inference_steps, look_back=2)


class TestMeanCache(PolicyConformance):
    steps_to_try = (2, 12, 28)

    def make_policy(self, num_inference_steps: int) -> Policy:
        return MeanCachePolicy(random_table(num_inference_steps), EdgeSettings(gamma=4.0))


class TestOTCache(PolicyConformance):
    def make_policy(self, num_inference_steps: int) -> Policy:
        graph = MeanCachePolicy(random_table(num_inference_steps))
        return OTCachePolicy(graph.schedule(5), graph.schedule(11))


class TestOTCacheWithEdges(PolicyConformance):
    steps_to_try = (12, 28)

    def make_policy(self, num_inference_steps: int) -> Policy:
        edges = random_table(num_inference_steps)
        graph = MeanCachePolicy(edges)
        return OTCachePolicy(graph.schedule(5), graph.schedule(11), edges=edges)


@dataclass
class Wrong:
    """A policy that can be made wrong in one way at a time."""

    answer: Callable[[int], Schedule] = UniformPolicy(12).schedule
    name: str = "wrong"
    num_inference_steps: int = 12
    budgets: Budgets = field(default_factory=lambda: Budgets(2, 12, 12))

    def schedule(self, budget: int) -> Schedule:
        return self.answer(budget)


def checks() -> list[str]:
    return [name for name in dir(PolicyConformance) if name.startswith("test_")]


def failures(policy: object) -> set[str]:
    """Names of the suite's checks that a policy fails."""
    suite = PolicyConformance()
    suite.make_policy = lambda num_inference_steps: policy
    suite.steps_to_try = (12,)
    failed = set()
    for name in checks():
        arguments = {"budget": 10.0} if name.endswith("are_no_integers") else {}
        try:
            getattr(suite, name)([policy], **arguments)
        except (Exception, pytest.fail.Exception):
            failed.add(name)
    return failed


class Drifting:
    """Schedules that alternate between two look-backs."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, budget: int) -> Schedule:
        self.calls += 1
        return UniformPolicy(12, 1 + self.calls % 2).schedule(budget)


RIGHT = Wrong()
UNIFORM = UniformPolicy(12).schedule


def test_a_right_policy_fails_nothing() -> None:
    assert failures(RIGHT) == set()


MISTAKES = [
    (object(), "test_has_the_parts_of_a_policy"),
    (replace(RIGHT, num_inference_steps=13), "test_has_the_parts_of_a_policy"),
    (replace(RIGHT, name="no name"), "test_name_is_an_identifier"),
    (
        replace(RIGHT, answer=lambda budget: UNIFORM(min(budget, 11))),
        "test_schedules_have_the_budget_and_both_ends",
    ),
    (
        replace(RIGHT, answer=lambda budget: UNIFORM(min(budget, 11))),
        "test_full_budget_computes_every_step",
    ),
    (replace(RIGHT, answer=Drifting()), "test_same_budget_gives_the_same_schedule"),
    (
        replace(RIGHT, answer=lambda budget: UNIFORM(max(2, min(budget, 12)))),
        "test_refuses_budgets_that_it_does_not_serve",
    ),
    (
        replace(RIGHT, answer=lambda budget: UNIFORM(int(budget))),
        "test_refuses_budgets_that_are_no_integers",
    ),
]


@pytest.mark.parametrize(("policy", "check"), MISTAKES)
def test_a_wrong_policy_fails_its_check(policy: object, check: str) -> None:
    assert check in failures(policy)


def test_every_check_is_shown_to_fail() -> None:
    assert {check for _, check in MISTAKES} == set(checks())


def test_a_suite_without_its_policy_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="make_policy must return"):
        PolicyConformance().make_policy(12)
    deciding = DecidingPolicyConformance()
    with pytest.raises(NotImplementedError, match="make_policy must return"):
        deciding.make_policy()
    with pytest.raises(NotImplementedError, match="observations must return"):
        deciding.observations()
