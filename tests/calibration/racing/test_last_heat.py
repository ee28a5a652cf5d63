"""The last heat of a race: newcomers run on what the heats and finals before have saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_race import PAIRS, STEPS, race_of
from otcache_policies import EdgeTable, Schedule

from otcache_plugin.calibration.racing.plan import RacePlan

ROOMY = RacePlan(STEPS, PAIRS, range(4, 6))
"""Of two budgets, which need far less than their shares."""

FRESH = set(ROOMY.selecting)


def newcomers_of(edges: EdgeTable) -> dict[int, list[Schedule]]:
    """Who runs in the last heat of a race in which all are equally good."""
    race, context = race_of(edges, lambda schedule, pair: 1.0, plan=ROOMY)
    race.run()
    return {budget: context.schedules("last heat", budget) for budget in ROOMY.budgets}


def test_newcomers_have_not_run_and_lie_apart(edges: EdgeTable) -> None:
    race, context = race_of(edges, lambda schedule, pair: 1.0, plan=ROOMY)
    winners, _ = race.run()
    found = [(stage, each) for stage, each, _ in context.asked]
    begun = [stage for stage, _ in found].index("last heat")
    before = {schedule for _, schedule in found[:begun]}
    newcomers = newcomers_of(edges)
    assert sum(map(len, newcomers.values())) > 0
    assert not before & {each for schedules in newcomers.values() for each in schedules}
    for budget, found_there in newcomers.items():
        leader = winners[budget].candidate.schedule
        # The first two are the lowest of two forms, wherever they lie.
        for number, each in enumerate(found_there[2:], start=2):
            for other in (leader, *found_there[:number]):
                apart = np.abs(np.subtract(each.computed_steps, other.computed_steps)).sum()
                assert apart > 6


def test_a_newcomer_that_is_better_on_fresh_pairs_wins(
    edges: EdgeTable, graph: set[Schedule]
) -> None:
    """One of each budget; which, the runs before do not say."""
    last = {found[-1] for found in newcomers_of(edges).values() if found} - graph
    assert last
    race, context = race_of(edges, lambda schedule, pair: 1.0 - (schedule in last), plan=ROOMY)
    winners, _ = race.run()
    met = {schedule for stage, schedule, _ in context.asked if stage == "finals of the last heat"}
    assert met & last
    for budget, winner in winners.items():
        challenged = bool({each for each in met & last if each.budget == budget})
        assert (winner.candidate.schedule in last) == challenged
        assert winner.candidate.family == ("optimised" if challenged else "graph")
        assert winner.verdict.gain == (1.0 if challenged else 0.0)
    assert context.denoising_steps <= ROOMY.steps


def test_a_newcomer_that_is_better_on_the_searching_pairs_alone_does_not_win(
    edges: EdgeTable, graph: set[Schedule]
) -> None:
    newcomers = {each for found in newcomers_of(edges).values() for each in found}

    def loss(schedule: Schedule, pair: int) -> float:
        return 1.0 if schedule not in newcomers else (2.0 if pair in FRESH else 0.0)

    winners, _ = race_of(edges, loss, plan=ROOMY)[0].run()
    assert {winner.candidate.schedule for winner in winners.values()} <= graph


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_newcomer_that_is_not_finite_is_not_chosen(
    edges: EdgeTable, graph: set[Schedule], value: float
) -> None:
    newcomers = {each for found in newcomers_of(edges).values() for each in found}

    def loss(schedule: Schedule, pair: int) -> float:
        return 1.0 if schedule not in newcomers else (value if pair == 3 else 0.0)

    winners, _ = race_of(edges, loss, plan=ROOMY)[0].run()
    assert {winner.candidate.schedule for winner in winners.values()} <= graph


def test_who_is_not_better_meets_nobody(edges: EdgeTable) -> None:
    race, context = race_of(edges, lambda schedule, pair: 1.0, plan=ROOMY)
    race.run()
    stages = {stage for stage, _, _ in context.asked}
    assert "last heat" in stages
    assert "finals of the last heat" not in stages


@dataclass(frozen=True)
class Tight(RacePlan):
    """A plan with few steps left for the last heat."""

    most: int = 0

    def left(self, spent: int) -> int:
        return self.most - spent


@pytest.mark.parametrize("furthest", [4, 5])
def test_where_steps_are_left_for_one_it_is_the_one_furthest_ahead(
    random_table: Callable[[int, int], EdgeTable], furthest: int
) -> None:
    """A newcomer of 4 steps and one of 5 run on four pairs and would meet winners on eight.

    Of 80 steps 40 are for newcomers: 20 for each budget, so one of each, which take 36. The 44 that
    are left are enough for either final, of 32 or 40 steps, not for both.
    """
    edges = random_table(STEPS, 4)
    race, context = race_of(edges, lambda schedule, pair: 1.0, 0.5, ROOMY)
    race.run()
    before = sum(
        schedule.budget * len(pairs)
        for stage, schedule, pairs in context.asked
        if stage != "last heat"
    )
    tight = Tight(STEPS, PAIRS, ROOMY.budgets, most=before + 80)
    race, context = race_of(edges, lambda schedule, pair: 1.0, 0.5, tight)
    race.run()
    newcomers = {budget: context.schedules("last heat", budget) for budget in (4, 5)}
    assert [len(found) for found in newcomers.values()] == [1, 1]
    leads = {newcomers[budget][0]: 1.0 + (budget == furthest) for budget in (4, 5)}

    race, context = race_of(edges, lambda schedule, pair: -leads.get(schedule, 0.0), 0.5, tight)
    winners, _ = race.run()
    for budget in (4, 5):
        won = winners[budget].candidate.schedule in leads
        assert won == (budget == furthest)
    assert context.denoising_steps <= tight.most


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_a_race_never_takes_more_than_its_steps(edges: EdgeTable, seed: int) -> None:
    """Whoever wins a heat by chance."""

    def loss(schedule: Schedule, pair: int) -> float:
        own = [seed, pair, *schedule.computed_steps, *schedule.look_backs]
        return float(np.random.default_rng(own).random())

    race, context = race_of(edges, loss, plan=ROOMY)
    race.run()
    assert context.denoising_steps <= ROOMY.steps
