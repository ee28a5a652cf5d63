"""The conformance suite of policies that decide, and what it finds wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from otcache_policies import DecidingPolicy, Decision, Policy, RunConditions, UniformPolicy
from otcache_policies.testing import DecidingPolicyConformance


@dataclass(frozen=True)
class Rising:
    """Computes the steps at which a number rises by more than a threshold since the last one."""

    threshold: float
    look_back: int = 1

    name: ClassVar[str] = "rising"
    observes: ClassVar[str] = "a number"

    def begin(self, run: RunConditions, observation: float) -> _Rising:
        return _Rising(self.threshold, observation)


class _Rising:
    def __init__(self, threshold: float, last: float) -> None:
        self.threshold, self.last = threshold, last

    def decide(self, step: int, observation: float) -> Decision:
        risen, self.last = observation - self.last, observation
        return Decision.COMPUTE if risen > self.threshold else Decision.CACHE


class TestRising(DecidingPolicyConformance):
    def make_policy(self) -> Rising:
        return Rising(0.5)

    def observations(self) -> Sequence[float]:
        return [0.0, 1.0, 1.2, 2.0, 2.1, 9.0]

    def test_by_hand(self) -> None:
        # Steps 1 … 4 rise by 1, 0.2, 0.8 and 0.1; nobody asks about the last one.
        assert [decision.value for decision in self._decide(self.make_policy())] == [
            "compute",
            "cache",
            "compute",
            "cache",
        ]


class Forgetful(Rising):
    """Its runs share what they remember."""

    shared: ClassVar[_Rising] = _Rising(0.5, 0.0)

    def begin(self, run: RunConditions, observation: float) -> _Rising:
        return self.shared


class Yes(_Rising):
    """Answers with a truth value, which is no decision."""

    def decide(self, step: int, observation: float) -> Any:
        return True


class Curt(Rising):
    def begin(self, run: RunConditions, observation: float) -> _Rising:
        return Yes(0.5, observation)


@pytest.mark.parametrize(
    ("policy", "test", "complaint"),
    [
        (Forgetful(0.5), "test_a_run_depends_on_none_before", "changed when begun again"),
        (Forgetful(0.5), "test_runs_do_not_disturb_each_other", "two runs share a state"),
        (Curt(0.5), "test_every_answer_is_a_decision", "True is no Decision"),
        (Rising(0.5, 0), "test_has_the_parts_of_a_policy", "look_back is below 1"),
        (UniformPolicy(6), "test_has_the_parts_of_a_policy", "lacks a part"),
    ],
)
def test_the_suite_finds_what_is_wrong(policy: Any, test: str, complaint: str) -> None:
    suite = TestRising()
    suite.make_policy = lambda: policy  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=complaint):
        getattr(suite, test)()


def test_the_two_kinds_are_told_apart() -> None:
    assert isinstance(Rising(0.5), DecidingPolicy)
    assert not isinstance(Rising(0.5), Policy)
    assert isinstance(UniformPolicy(6), Policy)
    assert not isinstance(UniformPolicy(6), DecidingPolicy)


def test_a_run_has_as_many_steps_as_its_sigmas_have_gaps() -> None:
    conditions = RunConditions(np.linspace(1.0, 0.0, 13), 5)
    assert (conditions.num_inference_steps, conditions.budget) == (12, 5)
    assert RunConditions(np.array([1.0, 0.0])).budget is None
