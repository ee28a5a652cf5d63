"""The budgeted shortest path, against every path that there is."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from otcache_policies import BudgetError, EdgeTableError, budgeted_shortest_path


def length(costs: np.ndarray, path: tuple[int, ...]) -> float:
    return sum(float(costs[edge]) for edge in pairwise(path))


def every_path(total: int, budget: int) -> list[tuple[int, ...]]:
    return [(0, *inner, total - 1) for inner in combinations(range(1, total - 1), budget - 2)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("total", range(2, 10))
def test_no_path_is_shorter(total: int, seed: int) -> None:
    costs = np.random.default_rng([total, seed]).exponential(size=(total, total)) ** (seed + 1)
    for budget in range(2, total + 1):
        path = budgeted_shortest_path(costs, budget)
        paths = every_path(total, budget)
        assert path in paths
        shortest = min(length(costs, other) for other in paths)
        assert length(costs, path) == pytest.approx(shortest, rel=1e-12)


def test_missing_edges_are_avoided() -> None:
    costs = np.ones((5, 5))
    costs[0, 1] = costs[0, 2] = np.inf
    assert budgeted_shortest_path(costs, 3) == (0, 3, 4)
    with pytest.raises(BudgetError, match="budget=5: no path of finite cost"):
        budgeted_shortest_path(costs, 5)


def test_entries_that_are_no_edges_are_not_looked_at() -> None:
    costs = np.full((4, 4), np.nan)
    costs[np.triu_indices(4, 1)] = 1
    assert budgeted_shortest_path(costs, 4) == (0, 1, 2, 3)


def test_ties_go_to_the_earliest_previous_node() -> None:
    assert budgeted_shortest_path(np.zeros((9, 9)), 4) == (0, 1, 2, 8)


def test_negative_costs_are_fine() -> None:
    costs = np.zeros((5, 5))
    costs[2, 4] = -1
    assert budgeted_shortest_path(costs, 3) == (0, 2, 4)


def test_the_table_is_left_alone() -> None:
    costs = np.arange(16.0).reshape(4, 4)
    before = costs.copy()
    budgeted_shortest_path(costs, 3)
    np.testing.assert_array_equal(costs, before)


def test_one_node_is_a_path_over_one_step() -> None:
    assert budgeted_shortest_path([[0.0]], 1) == (0,)


@pytest.mark.parametrize("budget", [-1, 0, 1, 6, True, 3.0])
def test_refuses_other_budgets(budget: int) -> None:
    with pytest.raises(BudgetError, match=r"budget=.*Use budget=2 … 5\."):
        budgeted_shortest_path(np.zeros((5, 5)), budget)


@pytest.mark.parametrize("costs", [np.zeros((3, 4)), np.zeros(4), np.zeros((0, 0)), "costs"])
def test_refuses_other_tables(costs: object) -> None:
    with pytest.raises(EdgeTableError, match="costs="):
        budgeted_shortest_path(costs, 2)


def test_refuses_an_edge_without_a_cost() -> None:
    costs = np.zeros((4, 4))
    costs[1, 3] = np.nan
    with pytest.raises(EdgeTableError, match="an edge has no cost"):
        budgeted_shortest_path(costs, 3)
