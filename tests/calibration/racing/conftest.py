"""The edges of races whose losses are known, and what the graph policy makes of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from known_race import BUDGETS, STEPS, race_of
from otcache_policies import EdgeTable, Schedule


@pytest.fixture(scope="module")
def edges(random_table: Callable[[int, int], EdgeTable]) -> EdgeTable:
    return random_table(STEPS, 3)


@pytest.fixture(scope="module")
def graph(edges: EdgeTable) -> set[Schedule]:
    """All schedules of the graph policy, by any reading of the table."""
    race, _ = race_of(edges, lambda schedule, pair: 1.0)
    return {each.schedule(budget) for each in race.recorded.readings for budget in BUDGETS}
