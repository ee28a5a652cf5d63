"""The shortest path with a fixed number of nodes: which steps to compute for a given budget."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from otcache_policies._validation import as_array, as_int
from otcache_policies.errors import BudgetError, EdgeTableError

__all__ = ["budgeted_shortest_path", "checked_costs", "checked_nodes", "no_such_path"]


def budgeted_shortest_path(costs: ArrayLike, budget: int) -> tuple[int, ...]:
    """Return the path 0 → T-1 with exactly `budget` nodes and the smallest sum of costs.

    This is the budgeted problem of LeMiCa (arXiv 2511.00090) and MeanCache (arXiv 2601.19961) with
    an additive cost, solved exactly by dynamic programming over (node, nodes used) in O(T² budget).
    Ties are broken from the end: of the cheapest ways to reach a node, the one whose previous node
    is the earliest is kept.

    Args:
        costs: Shape (T, T). Entry [i, j] is the cost of the edge i → j for i < j, +inf where there
            is no edge; entries with j <= i are not looked at.
        budget: Number of nodes, 2 … T; 1 when T is 1.

    Raises:
        BudgetError: The budget is outside that range, or the edges allow no such path.
        EdgeTableError: The costs are not a square table, or an edge's cost is NaN.
    """
    table = checked_costs(costs)
    total = len(table)
    budget = checked_nodes(budget, total)

    reached = np.full(total, np.inf)
    reached[0] = 0.0
    previous = np.zeros((budget, total), dtype=np.intp)
    for used in range(1, budget):
        through = reached[:, None] + table
        previous[used] = through.argmin(axis=0)
        reached = through.min(axis=0)
    if not np.isfinite(reached[-1]):
        raise no_such_path(budget)

    path = [total - 1]
    for used in range(budget - 1, 0, -1):
        path.append(int(previous[used, path[-1]]))
    return tuple(reversed(path))


def checked_costs(costs: ArrayLike) -> NDArray[np.float64]:
    """Return the costs of all edges as a copy, +inf where there can be none.

    Raises:
        EdgeTableError: They are not a square table, or an edge's cost is NaN.
    """
    remedy = "Pass a (T, T) table of numbers"
    table = as_array("costs", costs, EdgeTableError, remedy)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.size:
        raise EdgeTableError("costs", table.shape, "not of shape (T, T)", remedy)
    start, end = np.indices(table.shape)
    table[end <= start] = np.inf
    if np.isnan(table).any():
        raise EdgeTableError("costs", "nan", "an edge has no cost", "Use +inf for a missing edge")
    return table


def checked_nodes(budget: int, total: int) -> int:
    """Return a budget if a path over so many steps can have as many nodes.

    Raises:
        BudgetError: It cannot.
    """
    smallest = min(2, total)
    remedy = f"Use budget={smallest} … {total}"
    budget = as_int("budget", budget, BudgetError, remedy)
    if not smallest <= budget <= total:
        raise BudgetError("budget", budget, f"no path over {total} steps has it", remedy)
    return budget


def no_such_path(budget: int) -> BudgetError:
    """Return the error of a number of nodes that the edges allow no path of."""
    problem = "no path of finite cost has that many nodes"
    return BudgetError("budget", budget, problem, "Use another budget, or add edges")
