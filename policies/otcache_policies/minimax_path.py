"""The path with a fixed number of nodes whose worst edges are the least bad.

Two paths of as many edges are compared by their costs in descending order: by the most expensive
edge, then by the second, and so on. A sum treats errors as independent of each other; this bounds
the worst of them (LeMiCa, arXiv 2511.00090, Eq. 5).
"""

from __future__ import annotations

from bisect import insort

import numpy as np
from numpy.typing import ArrayLike
from otcache_policies.shortest_path import checked_costs, checked_nodes, no_such_path

__all__ = ["budgeted_minimax_path"]

Costs = tuple[float, ...]
"""Of a path's edges, negated and rising: the most expensive edge first."""


def budgeted_minimax_path(costs: ArrayLike, budget: int) -> tuple[int, ...]:
    """Return the path 0 → T-1 with exactly `budget` nodes and the lexicographically smallest costs.

    The costs of a path are taken in descending order. The problem is solved exactly, by dynamic
    programming over (node, nodes used): one more edge of the same cost leaves the order of two such
    lists of the same length as it is, so of all ways to a node only the best one matters. Of
    several, the one whose previous node is the earliest is kept.

    Args:
        costs: As `budgeted_shortest_path` takes them.
        budget: Likewise.

    Raises:
        BudgetError: The budget is outside 2 … T, or the edges allow no such path.
        EdgeTableError: The costs are not a square table, or an edge's cost is NaN.
    """
    table = checked_costs(costs)
    total = len(table)
    budget = checked_nodes(budget, total)
    before = [np.flatnonzero(np.isfinite(table[:, end])).tolist() for end in range(total)]

    reached: dict[int, tuple[Costs, tuple[int, ...]]] = {0: ((), (0,))}
    for _ in range(1, budget):
        ways = {
            end: [
                (_with(reached[start][0], float(table[start, end])), start)
                for start in before[end]
                if start in reached
            ]
            for end in range(total)
        }
        # As costs are negated, the largest list is the one whose worst edges are the cheapest.
        best = {end: max(each, key=_order) for end, each in ways.items() if each}
        reached = {end: (paid, (*reached[start][1], end)) for end, (paid, start) in best.items()}
    if total - 1 not in reached:
        raise no_such_path(budget)
    return reached[total - 1][1]


def _with(costs: Costs, cost: float) -> Costs:
    """Return a path's costs with those of one more edge."""
    longer = list(costs)
    insort(longer, -cost)
    return tuple(longer)


def _order(way: tuple[Costs, int]) -> tuple[Costs, int]:
    costs, start = way
    return costs, -start
