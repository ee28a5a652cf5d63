"""TeaCache and DiCache: what they decide, by hand; thresholds and the fitted polynomial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from otcache_policies import (
    AimingPolicy,
    BudgetError,
    Decision,
    DiCachePolicy,
    FieldError,
    RunConditions,
    TeaCachePolicy,
    Thresholds,
    fit_coefficients,
)
from otcache_policies.testing import DecidingPolicyConformance

IDENTITY = (0.0, 0.0, 0.0, 1.0, 0.0)
"""The polynomial that takes the change of the input for that of the output."""


def conditions(steps: int, budget: int | None) -> RunConditions:
    return RunConditions(np.linspace(1.0, 0.0, steps + 1), budget)


def decided(policy: Any, observations: Sequence[Any], budget: int) -> tuple[int, ...]:
    """The steps between the first and the last that are computed."""
    decider = policy.begin(conditions(len(observations), budget), observations[0])
    steps = range(1, len(observations) - 1)
    decisions = {step: decider.decide(step, observations[step]) for step in steps}
    return tuple(step for step in steps if decisions[step] is Decision.COMPUTE)


def growing(changes: Sequence[float]) -> list[torch.Tensor]:
    """Values of which each is larger than the one before by this share of it."""
    values = np.cumprod([1.0, *(1 + change for change in changes)])
    return [torch.full((2, 3), value, dtype=torch.float64) for value in values]


CHANGES = [0.25, 0.5, 0.125, 0.25, 1.0, 0.25, 0.5, 0.5]


@pytest.mark.parametrize("policy", ["teacache", "dicache"])
def test_changes_are_summed_until_they_reach_the_threshold(policy: str) -> None:
    thresholds = Thresholds({4: 0.75}, 9)
    made = (
        TeaCachePolicy(IDENTITY, thresholds)
        if policy == "teacache"
        else DiCachePolicy(1, thresholds)
    )
    # 0.25, then 0.75: reached at step 2. 0.125, 0.375, 1.375 at step 5. 0.25, 0.75 at step 7.
    assert decided(made, growing(CHANGES), 4) == (2, 5, 7)
    assert isinstance(made, AimingPolicy)


def test_a_polynomial_stands_between() -> None:
    squares = TeaCachePolicy((0.0, 0.0, 4.0, 0.0, -0.5), Thresholds({4: 0.75}, 9))
    # 4 d^2 - 0.5: below 0, 0.5, below 0, below 0, 3.5, below 0, 0.5, 0.5; below 0 counts as none.
    assert decided(squares, growing(CHANGES), 4) == (5,)


def test_all_steps_have_the_threshold_0() -> None:
    policy = TeaCachePolicy((0.0, 0.0, 0.0, 0.0, -1.0), Thresholds({4: 0.75}, 9))
    assert decided(policy, growing(CHANGES), 9) == tuple(range(1, 8))


def test_a_change_that_is_no_number_is_computed() -> None:
    values = [torch.zeros(2)] * 3 + [torch.ones(2)] * 3
    assert decided(DiCachePolicy(1, Thresholds({2: 9.0}, 6)), values, 2) == (1, 2, 3)


def test_thresholds_between_budgets_and_at_other_steps() -> None:
    thresholds = Thresholds({8: 0.4, 10: 0.1}, 50)
    of = {
        (steps, budget): thresholds.of_run(conditions(steps, budget), "mine")
        for steps, budget in [(50, 8), (50, 9), (50, 10), (50, 50), (25, 4), (25, 5), (100, 18)]
    }
    assert of[50, 8] == pytest.approx(0.4)
    assert of[50, 9] == pytest.approx(0.2)  # the geometric mean
    assert of[50, 10] == pytest.approx(0.1)
    assert of[50, 50] == 0.0
    # Half the steps, each twice as large a change; twice as many, each half as large.
    assert of[25, 4] == pytest.approx(0.8)
    assert of[25, 5] == pytest.approx(0.2)
    assert of[100, 18] == pytest.approx(0.1)
    for steps, budget in [(50, 7), (50, 11), (25, 6), (50, None)]:
        with pytest.raises(BudgetError, match=r"policy 'mine'.*Use budget="):
            thresholds.of_run(conditions(steps, budget), "mine")


def test_what_is_served_of_a_few_steps_can_be_asked_for() -> None:
    """A run of 4 steps has no share between 8 and 15 of 50 but that of its two ends."""
    thresholds = Thresholds({8: 0.4, 15: 0.1}, 50)
    with pytest.raises(BudgetError, match=r"Use budget=2, or 4\."):
        thresholds.of_run(conditions(4, 3), "mine")
    # 2 of 4 steps are 25 of 50, beyond the largest: its threshold, for steps 12.5 times as large.
    assert thresholds.of_run(conditions(4, 2), "mine") == pytest.approx(0.1 * 12.5)
    assert thresholds.of_run(conditions(4, 4), "mine") == 0.0


def test_thresholds_that_are_none() -> None:
    with pytest.raises(BudgetError, match="no budget has a threshold"):
        Thresholds({}, 50)
    with pytest.raises(FieldError, match="not a finite number above 0"):
        Thresholds({8: 0.0}, 50)
    with pytest.raises(FieldError, match="a larger budget has a larger threshold"):
        Thresholds({8: 0.1, 9: 0.2}, 50)
    with pytest.raises(FieldError, match="depth=4"):
        DiCachePolicy(4, Thresholds({8: 0.1}, 50))
    with pytest.raises(FieldError, match="not finite numbers"):
        TeaCachePolicy((1.0, float("nan")), Thresholds({8: 0.1}, 50))


def test_the_fit_finds_a_polynomial_again() -> None:
    changes = np.linspace(0.01, 0.4, 24).reshape(2, 12)
    wanted = (2.0, -1.0, 0.5, 0.75, 0.05)
    np.testing.assert_allclose(
        fit_coefficients(changes, np.polyval(wanted, changes)), wanted, rtol=1e-7
    )
    with pytest.raises(FieldError, match="needs more than 4 different changes"):
        fit_coefficients([0.1] * 9, [0.1] * 9)
    finite, infinite = np.arange(9.0), [float("inf")] * 9
    for inputs, outputs, field in [(infinite, finite, "inputs"), (finite, infinite, "outputs")]:
        with pytest.raises(FieldError, match=rf"{field}=\[inf.*not all of the changes are finite"):
            fit_coefficients(inputs, outputs)


class TestTeaCache(DecidingPolicyConformance):
    budget = 4

    def make_policy(self) -> TeaCachePolicy:
        return TeaCachePolicy(IDENTITY, Thresholds({4: 0.75}, 9))

    def observations(self) -> list[torch.Tensor]:
        return growing(CHANGES)


class TestDiCache(DecidingPolicyConformance):
    budget = 4

    def make_policy(self) -> DiCachePolicy:
        return DiCachePolicy(2, Thresholds({4: 0.75}, 9))

    def observations(self) -> list[np.ndarray[Any, Any]]:
        return [each.numpy() for each in growing(CHANGES)]
