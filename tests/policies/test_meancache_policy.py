"""The MeanCache policy, against every schedule of a budget and by hand."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from otcache_policies import (
    EdgeSettings,
    EdgeTable,
    EdgeTableError,
    MeanCachePolicy,
    Schedule,
    UniformPolicy,
)

MakeTable = Callable[..., EdgeTable]

SETTINGS = [
    EdgeSettings(cost, gamma, look_back)
    for cost, gamma, look_back in product(
        ("velocity", "displacement"), (0.5, 1.0, 4.0), (None, 1, 3)
    )
]


def edge_cost(
    table: EdgeTable, start: int, end: int, settings: EdgeSettings, look_back: int | None = None
) -> float:
    """The cost of one edge, straight from the definitions; the cheapest if no look-back is said."""
    errors = [float(error) for error in table.velocity_errors[start, end]]
    chosen = settings.look_back if look_back is None else look_back
    error = min(errors) if chosen is None else errors[chosen - 1]
    if settings.cost == "displacement":
        error *= abs(float(table.sigmas[end]) - float(table.sigmas[start]))
    return error**settings.gamma


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("total", range(2, 10))
def test_no_schedule_is_cheaper(make_table: MakeTable, total: int, settings: EdgeSettings) -> None:
    table = make_table(total, max_look_back=3, seed=total)
    policy = MeanCachePolicy(table, settings)
    price = {edge: edge_cost(table, *edge, settings) for edge in combinations(range(total), 2)}
    for budget in range(2, total + 1):
        schedule = policy.schedule(budget)
        assert schedule.budget == budget
        cheapest = min(
            sum(price[edge] for edge in pairwise((0, *inner, total - 1)))
            for inner in combinations(range(1, total - 1), budget - 2)
        )
        found = sum(
            edge_cost(table, each.start, each.end, settings, each.look_back)
            for each in schedule.segments
        )
        assert found == pytest.approx(cheapest, rel=1e-12)


def table_of_two_routes() -> EdgeTable:
    """Over five steps with budget 3, going through 1 costs 0 + 3 and through 2 costs 2 + 2."""
    errors = np.full((5, 5, 2), np.inf, dtype=np.float32)
    errors[np.triu_indices(5, 1)] = 9
    for step in range(4):
        errors[step, step + 1] = 0
    errors[1, 4] = [3, 5]
    errors[0, 2] = [4, 2]
    errors[2, 4] = [2, 2]
    return EdgeTable(errors, np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.0]))


@pytest.mark.parametrize(
    ("gamma", "look_back", "expected"),
    [
        (1.0, None, Schedule([0, 1, 4], 5, [1, 1])),  # 3 < 4
        (2.0, None, Schedule([0, 2, 4], 5, [2, 1])),  # 9 > 8: the peak is punished
        (2.0, 1, Schedule([0, 1, 4], 5, [1, 1])),  # 9 < 16 + 4
        (2.0, 2, Schedule([0, 2, 4], 5, [2, 2])),  # 25 > 8
    ],
)
def test_gamma_and_look_back_by_hand(
    gamma: float, look_back: int | None, expected: Schedule
) -> None:
    settings = EdgeSettings("velocity", gamma, look_back)
    assert MeanCachePolicy(table_of_two_routes(), settings).schedule(3) == expected


def test_the_cost_reading_changes_the_route() -> None:
    errors = table_of_two_routes().velocity_errors
    # Sigma falls by 0.06 from step 1 to 4, but by 0.5 from step 0 to 2.
    table = EdgeTable(errors, np.array([1.0, 0.51, 0.5, 0.48, 0.45, 0.0]))
    routes = {
        cost: MeanCachePolicy(table, EdgeSettings(cost, gamma=2.0)).schedule(3).computed_steps
        for cost in ("velocity", "displacement")
    }
    assert routes == {"velocity": (0, 2, 4), "displacement": (0, 1, 4)}


def test_equal_edges_of_a_convex_cost_give_even_gaps() -> None:
    start, end = np.indices((50, 50))
    errors = np.where(end > start, (end - start - 1.0) ** 2, np.inf)[:, :, None]
    table = EdgeTable(errors, np.linspace(1, 0, 51))
    found = MeanCachePolicy(table, EdgeSettings("velocity")).schedule(8)
    assert found == UniformPolicy(50).schedule(8)


def test_one_step_has_one_schedule() -> None:
    table = EdgeTable(np.full((1, 1, 1), np.inf), np.array([1.0, 0.0]))
    assert MeanCachePolicy(table).schedule(1) == Schedule.full(1)


def test_refuses_a_look_back_that_the_table_lacks(make_table: MakeTable) -> None:
    with pytest.raises(EdgeTableError, match="look_back=4: the table goes up to 3"):
        MeanCachePolicy(make_table(6), EdgeSettings(look_back=4))


def test_pickling_keeps_the_schedules(make_table: MakeTable) -> None:
    policy = MeanCachePolicy(make_table(12), EdgeSettings(gamma=2.0))
    again = pickle.loads(pickle.dumps(policy))
    assert [again.schedule(b) for b in policy.budgets] == [
        policy.schedule(b) for b in policy.budgets
    ]
