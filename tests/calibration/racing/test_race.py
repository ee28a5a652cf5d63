"""Races whose losses are known: who serves, and what is asked for before the final."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from known_race import BUDGETS, PLAN, STEPS, KnownContext, RecordedContext, race_of
from otcache_policies import EdgeTable, Schedule

from otcache_plugin.calibration.errors import NotFiniteError
from otcache_plugin.calibration.procedures.standard import raced, served
from otcache_plugin.calibration.racing.candidates import OPTIMISED, Candidate
from otcache_plugin.calibration.racing.finals import Winner, challenged
from otcache_plugin.calibration.racing.race import Race
from otcache_plugin.calibration.racing.verdict import Verdict, verdict_of

FRESH = set(PLAN.selecting)
FINALS = ("finals on fresh pairs", "finals of the last heat")


def test_the_graphs_schedule_stays_where_all_are_equally_good(
    edges: EdgeTable, graph: set[Schedule]
) -> None:
    race, _ = race_of(edges, lambda schedule, pair: 1.0)
    winners, _ = race.run()
    assert list(winners) == list(BUDGETS)
    for budget, winner in winners.items():
        assert winner.candidate.family == "graph"
        assert winner.candidate.schedule in graph
        assert winner.verdict == Verdict(0.0, 0.0, len(PLAN.final(budget)))


def test_the_graph_reads_the_edges_of_all_pairs_and_the_others_half_of_them(
    edges: EdgeTable, graph: set[Schedule]
) -> None:
    """Losses are the same, so the graph's likeliest schedule stays."""
    context: Any = RecordedContext(edges, lambda schedule, pair: 1.0)
    winners, _ = raced(PLAN, context)
    assert {each.candidate.schedule for each in winners.values()} <= graph


def test_who_is_better_on_fresh_pairs_wins(edges: EdgeTable, graph: set[Schedule]) -> None:
    race, _ = race_of(edges, lambda schedule, pair: (schedule in graph) + pair / 10)
    winners, _ = race.run()
    for budget, winner in winners.items():
        assert winner.candidate.family != "graph"
        assert winner.candidate.schedule not in graph
        assert winner.graph.schedule in graph
        assert winner.verdict.gain == pytest.approx(1.0)
        assert winner.verdict.standard_error == pytest.approx(0.0, abs=1e-12)
        assert winner.verdict.pairs == len(PLAN.final(budget))


def test_what_is_better_on_the_searching_pairs_alone_does_not_win(
    edges: EdgeTable, graph: set[Schedule]
) -> None:
    def loss(schedule: Schedule, pair: int) -> float:
        return 1.0 if schedule in graph else (2.0 if pair in FRESH else 0.0)

    winners, _ = race_of(edges, loss)[0].run()
    for winner in winners.values():
        assert winner.candidate.family == "graph"
        assert winner.verdict.gain == pytest.approx(-1.0)


def test_the_best_of_each_family_meet_in_the_final(edges: EdgeTable, graph: set[Schedule]) -> None:
    """Every schedule has a loss of its own, the same on all pairs; the lowest wins."""

    def loss(schedule: Schedule, _: int) -> float:
        return float(
            np.random.default_rng([*schedule.computed_steps, *schedule.look_backs]).random()
        )

    race, context = race_of(edges, loss)
    winners, _ = race.run()
    for budget, winner in winners.items():
        run = {each for _, each, _ in context.asked if each.budget == budget}
        best = min(run & graph, key=lambda each: loss(each, 0))
        other = min(run - graph, key=lambda each: loss(each, 0))
        final = context.schedules("finals on fresh pairs", budget)
        assert final == [best, other]
        assert winner.candidate.schedule == min(final, key=lambda each: loss(each, 0))
        assert winner.verdict.gain == pytest.approx(loss(best, 0) - loss(other, 0))


def test_fresh_pairs_are_left_alone_until_the_final(edges: EdgeTable) -> None:
    race, context = race_of(edges, lambda schedule, pair: float(schedule.computed_steps[1]))
    race.run()
    for stage, schedule, pairs in context.asked:
        if stage in FINALS:
            assert pairs == PLAN.final(schedule.budget)
            assert set(pairs) <= FRESH
        else:
            assert pairs in (PLAN.first_heat, PLAN.second_heat(schedule.budget))
            assert not set(pairs) & FRESH
    assert [stage for stage, *_ in context.asked][-1] in FINALS


def test_no_run_is_made_twice_and_none_more_than_planned(edges: EdgeTable) -> None:
    race, context = race_of(edges, lambda schedule, pair: float(schedule.computed_steps[1]))
    race.run()
    asked = [(schedule, pairs) for _, schedule, pairs in context.asked]
    assert len(asked) == len(set(asked))
    for budget in BUDGETS:
        assert len(context.schedules("first heat", budget)) <= PLAN.candidates(budget)
        assert len(context.schedules("heat of fitted candidates", budget)) <= 3
        assert len(context.schedules("second heat", budget)) <= 4
        assert len(context.schedules("finals on fresh pairs", budget)) <= 2
        assert len(context.schedules("last heat", budget)) <= 6
    # What progress was told is what was run.
    for stage, requests in context.announced.items():
        ran = [(schedule, pairs) for at, schedule, pairs in context.asked if at == stage]
        assert requests == ran


@pytest.mark.parametrize("gain", [0.5, 1.0])
def test_the_gains_are_those_of_the_runs(edges: EdgeTable, gain: float) -> None:
    """Every displacement is halved here, or kept."""
    _, gains = race_of(edges, lambda schedule, pair: 1.0, gain)[0].run()
    assert gains is not None
    # Steps 2 and later are ends of segments with something cached; held to 1 a little.
    np.testing.assert_allclose(gains.values[3:], gain, atol=0.02)
    assert gains.unexplained == pytest.approx(0.0, abs=1e-3)
    # |g d - d|^2 / |g d|^2
    assert gains.unexplained_before == pytest.approx((1 - gain) ** 2 / gain**2, abs=1e-3)


def test_what_is_not_finite_in_a_heat_is_not_chosen(edges: EdgeTable, graph: set[Schedule]) -> None:
    """Here every schedule of the other families, at one pair of the second heat alone."""

    def loss(schedule: Schedule, pair: int) -> float:
        return 1.0 if schedule in graph else (np.nan if pair == 5 else 0.0)

    winners, _ = race_of(edges, loss)[0].run()
    for each, winner in zip(served(winners), winners.values(), strict=True):
        assert winner.candidate.family == "graph"
        assert winner.verdict.gain == -np.inf
        # There is nothing to say of it in numbers.
        assert (each.family, each.gain, each.standard_error, each.pairs) == ("graph", *[None] * 3)


def test_the_graphs_that_fails_in_a_heat_gives_way(edges: EdgeTable, graph: set[Schedule]) -> None:
    def loss(schedule: Schedule, pair: int) -> float:
        return np.nan if schedule in graph and pair == 5 else float(schedule not in graph)

    winners, _ = race_of(edges, loss)[0].run()
    assert all(winner.candidate.family != "graph" for winner in winners.values())
    assert all(winner.verdict.gain == np.inf for winner in winners.values())


def test_what_is_not_finite_in_the_final_is_not_chosen(
    edges: EdgeTable, graph: set[Schedule]
) -> None:
    last = PLAN.selecting[0]

    def loss(schedule: Schedule, pair: int) -> float:
        return 1.0 if schedule in graph else (np.inf if pair == last else 0.0)

    winners, _ = race_of(edges, loss)[0].run()
    assert all(winner.candidate.family == "graph" for winner in winners.values())


@pytest.mark.parametrize("failing", [range(16), range(2, 3), range(5, 6), range(8, 9)])
def test_where_nothing_is_finite_it_ends(edges: EdgeTable, failing: range) -> None:
    """At all pairs, at one of either heat, or at one of the finals."""
    race, _ = race_of(edges, lambda schedule, pair: np.nan if pair in failing else 1.0)
    with pytest.raises(NotFiniteError, match="leave no choice whose losses are finite"):
        race.run()


FINAL_PAIRS = dict.fromkeys((4, 5), PLAN.selecting)


def winner_of(schedule: Schedule, graph: Schedule) -> Winner:
    verdict = verdict_of(np.full(8, 1.0), np.full(8, 0.5))
    return Winner(Candidate(OPTIMISED, schedule), Candidate("graph", graph), verdict)


@pytest.mark.parametrize(
    ("loss", "wins", "gain"),
    [(0.25, True, 0.75), (0.5, False, 0.5), (0.75, False, 0.5), (np.nan, False, 0.5)],
)
def test_a_challenger_has_to_be_better_than_the_winner(
    loss: float, wins: bool, gain: float
) -> None:
    graph, holding, challenging = (
        Schedule([0, step, 8, 11], STEPS, [1, 1, 1]) for step in (3, 4, 5)
    )
    losses = {graph: 1.0, holding: 0.5, challenging: loss}
    context = KnownContext(lambda schedule, pair: losses[schedule])
    winners = {4: winner_of(holding, graph), 5: winner_of(graph, graph)}
    challengers = {4: Candidate("searched", challenging)}
    after = challenged("a final", winners, challengers, FINAL_PAIRS, context)  # type: ignore[arg-type]
    assert after[5] == winners[5]
    assert after[4].candidate == (challengers[4] if wins else winners[4].candidate)
    assert after[4].graph == winners[4].graph
    assert after[4].verdict.gain == gain
    assert {pairs for _, _, pairs in context.asked} == {PLAN.selecting}


def test_a_challenger_that_holds_already_is_not_run() -> None:
    schedule = Schedule([0, 4, 8, 11], STEPS, [1, 1, 1])
    context = KnownContext(lambda schedule, pair: 1.0)
    winners = {4: winner_of(schedule, schedule)}
    challengers = {4: Candidate("searched", schedule)}
    after = challenged("a final", winners, challengers, FINAL_PAIRS, context)  # type: ignore[arg-type]
    assert after == winners
    assert context.asked == []


def test_the_race_comes_to_the_same_again(edges: EdgeTable) -> None:
    def run() -> dict[int, Winner]:
        race: Race = race_of(edges, lambda schedule, pair: schedule.computed_steps[1] / 7 + pair)[0]
        return race.run()[0]

    assert run() == run()
