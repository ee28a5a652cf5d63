"""The budgeted minimax path, against every path that there is."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from otcache_policies import BudgetError, EdgeTableError, budgeted_minimax_path

EDGE = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, np.inf])
"""Few values, so that there are ties and missing edges."""


@st.composite
def tables(draw: st.DrawFn) -> NDArray[np.float64]:
    total = draw(st.integers(2, 7))
    edges = draw(st.lists(EDGE | st.floats(0, 3), min_size=total**2, max_size=total**2))
    return np.array(edges).reshape(total, total)


def worst_first(costs: NDArray[np.float64], path: tuple[int, ...]) -> list[float]:
    return sorted((float(costs[edge]) for edge in pairwise(path)), reverse=True)


@given(tables())
def test_no_path_has_less_bad_edges(costs: NDArray[np.float64]) -> None:
    total = len(costs)
    for budget in range(2, total + 1):
        inner = combinations(range(1, total - 1), budget - 2)
        everything = [worst_first(costs, (0, *steps, total - 1)) for steps in inner]
        best = min(everything)
        if np.isinf(best[0]):
            with pytest.raises(BudgetError, match="no path of finite cost"):
                budgeted_minimax_path(costs, budget)
            continue
        path = budgeted_minimax_path(costs, budget)
        assert (path[0], path[-1], len(path)) == (0, total - 1, budget)
        assert worst_first(costs, path) == best


def test_the_second_worst_edge_decides_between_equal_worst_ones() -> None:
    """By hand: 0-1-3 costs 3 and 2, 0-2-3 costs 3 and 1; the sum alone would take either order."""
    costs = np.full((4, 4), np.inf)
    costs[0, 1], costs[1, 3] = 3, 2
    costs[0, 2], costs[2, 3] = 1, 3
    assert budgeted_minimax_path(costs, 3) == (0, 2, 3)


def test_it_is_not_the_shortest_path() -> None:
    """0-1-3 sums to 3.1 with a worst edge of 3; 0-2-3 sums to 4 with a worst edge of 2."""
    costs = np.full((4, 4), np.inf)
    costs[0, 1], costs[1, 3] = 3, 0.1
    costs[0, 2], costs[2, 3] = 2, 2
    assert budgeted_minimax_path(costs, 3) == (0, 2, 3)


def test_ties_go_to_the_earliest_previous_node() -> None:
    assert budgeted_minimax_path(np.zeros((9, 9)), 4) == (0, 1, 2, 8)


@pytest.mark.parametrize("budget", [-1, 0, 1, 6, True, 3.0])
def test_refuses_other_budgets(budget: int) -> None:
    with pytest.raises(BudgetError, match=r"budget=.*Use budget=2 … 5\."):
        budgeted_minimax_path(np.zeros((5, 5)), budget)


def test_refuses_an_edge_without_a_cost() -> None:
    costs = np.zeros((4, 4))
    costs[1, 3] = np.nan
    with pytest.raises(EdgeTableError, match="an edge has no cost"):
        budgeted_minimax_path(costs, 3)
