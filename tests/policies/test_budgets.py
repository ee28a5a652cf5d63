"""Budgets: which are served, what is said about the others, and budgets from speed-ups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from otcache_policies import BudgetError, Budgets, Policy, UniformPolicy, budget_for_speedup

BUDGETS = Budgets(8, 20, 50)


def test_the_range_and_the_full_run_are_served() -> None:
    assert [budget for budget in range(-2, 60) if budget in BUDGETS] == [*range(8, 21), 50]
    assert list(BUDGETS) == [*range(8, 21), 50]
    assert list(Budgets(2, 4, 4)) == [2, 3, 4]
    assert np.int64(8) in BUDGETS


@pytest.mark.parametrize("value", [True, 8.0, "8", None, [8]])
def test_other_things_are_not_served(value: object) -> None:
    assert value not in BUDGETS
    assert True not in Budgets(1, 1, 1)


@pytest.mark.parametrize(
    ("budgets", "text"),
    [
        (BUDGETS, "8 … 20, or 50"),
        (Budgets(2, 50, 50), "2 … 50"),
        (Budgets(15, 15, 50), "15, or 50"),
        (Budgets(1, 1, 1), "1"),
    ],
)
def test_reads_as_words(budgets: Budgets, text: str) -> None:
    assert str(budgets) == text


def test_require_returns_a_plain_int() -> None:
    assert BUDGETS.require(50, "otcache") == 50
    assert type(BUDGETS.require(np.int64(9), "otcache")) is int


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        (3, "below the smallest budget 8 of policy 'otcache'"),
        (21, "above the largest budget 20 of policy 'otcache'"),
        (51, "above the 50 steps of the run"),
        (True, "an integer is needed, not bool"),
        (10.0, "an integer is needed, not float"),
    ],
)
def test_require_says_what_is_wrong_and_what_is_served(budget: int, problem: str) -> None:
    with pytest.raises(BudgetError) as caught:
        BUDGETS.require(budget, "otcache")
    assert str(caught.value) == f"budget={budget}: {problem}. Use budget=8 … 20, or 50."
    assert (caught.value.field, caught.value.value) == ("budget", budget)


@pytest.mark.parametrize(
    ("budget", "served"), [(-3, 8), (8, 8), (15, 15), (21, 20), (49, 20), (50, 50), (99, 50)]
)
def test_clamp(budget: int, served: int) -> None:
    assert BUDGETS.clamp(budget) == served


def test_clamp_refuses_other_things() -> None:
    with pytest.raises(BudgetError, match=r"budget=9\.5"):
        BUDGETS.clamp(9.5)


@given(st.integers(1, 60), st.integers(-5, 80), st.data())
def test_clamp_always_gives_a_served_budget(total: int, budget: int, data: st.DataObject) -> None:
    largest = data.draw(st.integers(1, total))
    budgets = Budgets(data.draw(st.integers(1, largest)), largest, total)
    assert budgets.clamp(budget) in budgets
    assert (budgets.clamp(budget) == budget) == (budget in budgets)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ((0, 5, 9), "smallest"),
        ((6, 5, 9), "largest"),
        ((2, 10, 9), "largest"),
        ((2.0, 5, 9), "smallest"),
        ((2, True, 9), "largest"),
        ((2, 5, "9"), "num_inference_steps"),
    ],
)
def test_refuses_other_ranges(parts: tuple[int, int, int], field: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budgets(*parts)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("speedup", "total", "budget"),
    [
        (1, 50, 50),
        (4.0, 50, 12),  # 12.5: halves go to the even budget
        (5, 50, 10),
        (3.0, 50, 17),  # 16.7
        (3.3, 50, 15),
        (1000, 50, 2),
        (2.0, 28, 14),
        (3.0, 1, 1),
    ],
)
def test_budget_for_speedup(speedup: float, total: int, budget: int) -> None:
    assert budget_for_speedup(speedup, total) == budget


@pytest.mark.parametrize("speedup", [0.99, 0, -2, float("nan"), float("inf"), "4", True, None])
def test_refuses_other_speedups(speedup: float) -> None:
    with pytest.raises(BudgetError, match=r"Use a speed-up of 1 or more") as caught:
        budget_for_speedup(speedup, 50)
    assert caught.value.field == "speedup"


@pytest.mark.parametrize("total", [0, 50.0])
def test_a_speedup_needs_steps(total: int) -> None:
    with pytest.raises(BudgetError, match="num_inference_steps="):
        budget_for_speedup(2.0, total)


@pytest.mark.parametrize(("total", "served"), [(1, [1]), (2, [2]), (5, [2, 3, 4, 5])])
def test_every_budget_of_a_run(total: int, served: list[int]) -> None:
    assert list(Budgets.up_to(total)) == served


@pytest.mark.parametrize("total", [0, 5.0])
def test_a_run_without_steps_has_no_budget(total: int) -> None:
    with pytest.raises(BudgetError, match=r"num_inference_steps=.*Use 1 or more"):
        Budgets.up_to(total)


@pytest.mark.parametrize(
    ("total", "smallest", "largest"),
    [
        (50, 8, 20),
        (25, 4, 10),
        (30, 5, 12),  # 4.8 and 12
        (4, 2, 2),  # 0.6 and 1.6: both ends of a run are computed
        (1, 1, 1),
    ],
)
def test_other_steps_are_served_the_same_shares(total: int, smallest: int, largest: int) -> None:
    assert BUDGETS.scaled_to(total) == Budgets(smallest, largest, total)


def test_a_policy_is_known_by_its_parts() -> None:
    assert isinstance(UniformPolicy(9), Policy)
    assert not isinstance(BUDGETS, Policy)
