"""Conformance suites for policies: subclass one in your own tests to prove a new policy right.

    class TestMyPolicy(PolicyConformance):
        def make_policy(self, num_inference_steps):
            return MyPolicy(num_inference_steps)

`DecidingPolicyConformance` is for policies that decide at every step. pytest collects the subclass,
not the suite itself, whose name does not begin with "Test". This is the only module of the package
that needs pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from otcache_policies.deciding import DecidingPolicy, Decision, RunConditions
from otcache_policies.errors import BudgetError
from otcache_policies.policy import Budgets, Policy
from otcache_policies.schedule import Schedule

__all__ = ["DecidingPolicyConformance", "PolicyConformance"]


class PolicyConformance:
    """What every policy promises, checked for every budget that it serves.

    Attributes:
        steps_to_try: Run lengths to make policies for. A policy that is calibrated for one length
            names that one.
    """

    steps_to_try: ClassVar[tuple[int, ...]] = (12, 28, 50)

    def make_policy(self, num_inference_steps: int) -> Policy:
        """Return the policy under test for a run of this many steps. Override it."""
        raise NotImplementedError("make_policy must return the policy under test")

    @pytest.fixture
    def policies(self) -> list[Policy]:
        """The policy under test, once per run length."""
        return [self.make_policy(total) for total in self.steps_to_try]

    def test_has_the_parts_of_a_policy(self, policies: list[Policy]) -> None:
        for policy, total in zip(policies, self.steps_to_try, strict=True):
            assert isinstance(policy, Policy), f"{policy!r} lacks a part of Policy"
            assert isinstance(policy.budgets, Budgets), "budgets is not a Budgets"
            assert policy.num_inference_steps == total, "num_inference_steps is not as asked for"
            assert policy.budgets.num_inference_steps == total, "budgets are for another run"

    def test_name_is_an_identifier(self, policies: list[Policy]) -> None:
        for policy in policies:
            assert isinstance(policy.name, str), f"name {policy.name!r} is not a str"
            assert policy.name.isidentifier(), f"name {policy.name!r} is not an identifier"

    def test_schedules_have_the_budget_and_both_ends(self, policies: list[Policy]) -> None:
        for policy in policies:
            last = policy.num_inference_steps - 1
            for budget in policy.budgets:
                schedule = policy.schedule(budget)
                assert isinstance(schedule, Schedule), f"budget {budget}: not a Schedule"
                assert schedule.num_inference_steps == last + 1, f"budget {budget}: other run"
                assert schedule.budget == budget, f"{schedule.budget} computed steps, not {budget}"
                ends = schedule.computed_steps[0], schedule.computed_steps[-1]
                assert ends == (0, last), f"budget {budget}: runs from {ends[0]} to {ends[1]}"

    def test_same_budget_gives_the_same_schedule(self, policies: list[Policy]) -> None:
        for policy in policies:
            fresh = self.make_policy(policy.num_inference_steps)
            for budget in policy.budgets:
                schedule = policy.schedule(budget)
                assert policy.schedule(budget) == schedule, f"budget {budget}: changed when asked"
                assert fresh.schedule(budget) == schedule, f"budget {budget}: changed when rebuilt"

    def test_full_budget_computes_every_step(self, policies: list[Policy]) -> None:
        for policy in policies:
            total = policy.num_inference_steps
            assert policy.schedule(total).computed_steps == tuple(range(total)), "a step is cached"

    def test_refuses_budgets_that_it_does_not_serve(self, policies: list[Policy]) -> None:
        for policy in policies:
            total = policy.num_inference_steps
            for budget in range(-1, total + 2):
                if budget not in policy.budgets:
                    with pytest.raises(BudgetError):
                        policy.schedule(budget)

    @pytest.mark.parametrize("budget", [True, 10.0, "10", None])
    def test_refuses_budgets_that_are_no_integers(
        self, policies: list[Policy], budget: int
    ) -> None:
        for policy in policies:
            with pytest.raises(BudgetError):
                policy.schedule(budget)


class DecidingPolicyConformance:
    """What every policy that decides at every step promises.

    Attributes:
        budget: What a run asks for, for policies that need a budget to aim at.
    """

    budget: ClassVar[int | None] = None

    def make_policy(self) -> DecidingPolicy[Any]:
        """Return the policy under test. Override it."""
        raise NotImplementedError("make_policy must return the policy under test")

    def observations(self) -> Sequence[Any]:
        """Return what a run of some steps would show the policy, one per step. Override it."""
        raise NotImplementedError("observations must return what a policy is shown, step by step")

    def _conditions(self) -> RunConditions:
        return RunConditions(np.linspace(1.0, 0.0, len(self.observations()) + 1), self.budget)

    def _decide(self, policy: DecidingPolicy[Any]) -> list[Decision]:
        first, *others = self.observations()
        decider = policy.begin(self._conditions(), first)
        return [decider.decide(step, each) for step, each in enumerate(others[:-1], start=1)]

    def test_has_the_parts_of_a_policy(self) -> None:
        policy = self.make_policy()
        assert isinstance(policy, DecidingPolicy), f"{policy!r} lacks a part of DecidingPolicy"
        assert isinstance(policy.observes, str), "observes is not a str"
        assert isinstance(policy.look_back, int), "look_back is not an int"
        assert policy.look_back >= 1, "look_back is below 1"
        assert isinstance(policy.name, str), f"name {policy.name!r} is not a str"
        assert policy.name.isidentifier(), f"name {policy.name!r} is not an identifier"

    def test_every_answer_is_a_decision(self) -> None:
        for step, decision in enumerate(self._decide(self.make_policy()), start=1):
            assert isinstance(decision, Decision), f"step {step}: {decision!r} is no Decision"

    def test_a_run_depends_on_none_before(self) -> None:
        policy = self.make_policy()
        decisions = self._decide(policy)
        assert self._decide(policy) == decisions, "changed when begun again"
        assert self._decide(self.make_policy()) == decisions, "changed when rebuilt"

    def test_runs_do_not_disturb_each_other(self) -> None:
        policy, (first, *others) = self.make_policy(), self.observations()
        one, other = (policy.begin(self._conditions(), first) for _ in range(2))
        for step, each in enumerate(others[:-1], start=1):
            decision = one.decide(step, each)
            assert other.decide(step, each) == decision, f"step {step}: two runs share a state"
