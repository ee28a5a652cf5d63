"""Policies that decide: budgets, executors that cannot take them, answers that are none."""

from __future__ import annotations

from typing import Any, ClassVar

import cache_dit
import pytest
import torch
from moved_latents import MovedLatents
from otcache_policies import BudgetError, FieldError, RunConditions
from tiny_pipelines import FLUX, make_flux

import otcache_plugin
from otcache_plugin.errors import ArgumentError, PipelineError

STEPS = 20
NAME = MovedLatents.name


def test_a_budget_to_aim_at(use: Any, enable: Any) -> None:
    policy = use(MovedLatents(float("inf")))
    pipe = make_flux()
    for asked in ({}, {"budget": 6}, {"speedup": 4.0}):
        enable(pipe, policy=NAME, **asked)
        FLUX.run(pipe, num_inference_steps=STEPS)
    assert [run.budget for run in policy.begun] == [None, 6, 5]
    with pytest.raises(BudgetError, match="budget=1: not a number of steps"):
        enable(pipe, policy=NAME, budget=1)
    enable(pipe, policy=NAME, budget=21)
    with pytest.raises(BudgetError, match=r"budget=21: the run has 20 steps. Use budget=2 … 20"):
        FLUX.run(pipe, num_inference_steps=STEPS)


class NoBudget(MovedLatents):
    """Knows only its threshold."""

    def begin(self, run: RunConditions, observation: torch.Tensor) -> Any:
        if run.budget is not None:
            problem = "this policy follows a threshold"
            raise BudgetError("budget", run.budget, problem, "Leave budget and speedup out")
        return super().begin(run, observation)


def test_a_policy_that_takes_no_budget(use: Any, enable: Any) -> None:
    use(NoBudget(0.1))
    pipe = make_flux()
    enable(pipe, policy=NAME, budget=6)
    with pytest.raises(BudgetError, match="this policy follows a threshold"):
        FLUX.run(pipe, num_inference_steps=STEPS)
    enable(pipe, policy=NAME)
    FLUX.run(pipe, num_inference_steps=STEPS)
    assert otcache_plugin.summary(pipe).as_planned


class Probing(MovedLatents):
    """Wants to see what this executor cannot show."""

    observes: ClassVar[str] = "first-block"


def test_executors_that_cannot_take_a_policy_say_so(use: Any) -> None:
    use(Probing(0.1))
    pipe = make_flux()
    with pytest.raises(ArgumentError) as caught:
        cache_dit.enable_cache(pipe, policy=NAME, executor="velocity")
    assert str(caught.value).startswith(
        "executor='velocity': policy 'moved_latents' observes 'first-block' to decide, and this "
        "executor shows 'latents'."
    )
    use(MovedLatents(0.1))
    with pytest.raises(ArgumentError) as caught:
        cache_dit.enable_cache(pipe, policy=NAME, executor="blocks")
    assert str(caught.value) == (
        "executor='blocks': cache-dit is told the computed steps when a run begins, and policy "
        "'moved_latents' decides at every step. Leave executor out, or pass a policy that gives a "
        "schedule."
    )
    with pytest.raises(PipelineError, match="no policy is enabled"):
        otcache_plugin.summary(pipe)


class Truthful(MovedLatents):
    """Answers with a truth value."""

    def begin(self, run: RunConditions, observation: torch.Tensor) -> Any:
        class Decider:
            def decide(self, step: int, observation: torch.Tensor) -> Any:
                return step > 3

        return Decider()


def test_an_answer_that_is_no_decision(use: Any, enable: Any) -> None:
    use(Truthful(0.1))
    pipe = make_flux()
    enable(pipe, policy=NAME)
    with pytest.raises(FieldError) as caught:
        FLUX.run(pipe, num_inference_steps=STEPS)
    assert str(caught.value) == (
        "decide=False: the answer of policy 'moved_latents' to step 1 is not a Decision. "
        "Return Decision.COMPUTE or Decision.CACHE."
    )
