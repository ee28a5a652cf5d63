"""The choices made by the end-to-end loss are the best of all that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from otcache_policies import (
    EdgeSettings,
    EdgeTable,
    MeanCachePolicy,
    OTCachePolicy,
    Policy,
    Schedule,
    wasserstein_barycentre,
)

from otcache_plugin.calibration.searching.candidates import ScheduleSearch, Trial
from otcache_plugin.calibration.searching.tuning import (
    best_of,
    edge_settings,
    graph_candidates,
    pool_of_pairs,
    tune_graph,
    tune_rho,
)

STEPS = 14
BUDGETS = (4, 5, 7)
RHOS = [0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3]
Loss = Callable[[Schedule], float]
MakeTable = Callable[[int, int], EdgeTable]


def mean(policy: Policy, loss: Loss, budgets: Sequence[int] = BUDGETS) -> float:
    return float(np.mean([loss(policy.schedule(budget)) for budget in budgets]))


class Losses:
    """The losses of several schedules at once; how many were asked for each time."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.asked: list[int] = []

    def __call__(self, schedules: Sequence[Schedule]) -> list[float]:
        self.asked.append(len(schedules))
        return [self.loss(schedule) for schedule in schedules]


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_policy_is_the_best_of_all_settings(
    random_table: MakeTable, rugged_loss: Loss, seed: int
) -> None:
    table, losses = random_table(STEPS, seed), Losses(rugged_loss)
    means = {}
    for cost in ("velocity", "displacement"):
        for gamma in (1.0, 2.0, 4.0):
            for look_back in (None, 1, 2, 3):
                settings = EdgeSettings(cost, gamma, look_back)
                means[settings] = mean(MeanCachePolicy(table, settings), rugged_loss)
    chosen = tune_graph(table, BUDGETS, losses)
    assert chosen.edges is table
    assert means[chosen.settings] == pytest.approx(min(means.values()))
    assert len(set(means.values())) > 3
    assert losses.asked == [24 * 3]  # All of them are measured side by side.


def test_of_equal_graph_policies_it_is_the_first(random_table: MakeTable) -> None:
    chosen = tune_graph(random_table(STEPS, 0), BUDGETS, Losses(lambda schedule: 1.0))
    assert chosen.settings == EdgeSettings("velocity", 1.0, None)


@pytest.mark.parametrize(("largest", "rules"), [(6, 4), (3, 4), (2, 3), (1, 2)])
def test_no_reading_asks_for_more_than_the_table_has(
    random_table: MakeTable, largest: int, rules: int
) -> None:
    found = edge_settings(largest)
    assert len(found) == len(set(found)) == 2 * 3 * rules
    assert all(each.look_back is None or each.look_back <= largest for each in found)
    table = random_table(STEPS, 0)
    cut = EdgeTable(table.velocity_errors[..., :largest], table.sigmas)
    assert [each.settings for each in graph_candidates(cut)] == list(found)


def search(*trials: tuple[tuple[int, ...], float]) -> ScheduleSearch:
    """A search from (0, 4, 8), of loss 5."""
    found = [Trial(Schedule(steps, 9), loss) for steps, loss in trials]
    return ScheduleSearch(Trial(Schedule([0, 4, 8], 9), 5.0), tuple(found), ())


def test_a_pool_has_what_every_pair_found() -> None:
    searches = [
        search(((0, 1, 8), 3.0), ((0, 2, 8), 1.0), ((0, 3, 8), 2.0)),
        search(((0, 6, 8), 4.0), ((0, 7, 8), 9.0)),
        search(((0, 2, 8), 4.0)),
    ]
    warm_start = Schedule([0, 4, 8], 9)
    pool = pool_of_pairs(searches, warm_start, lambda steps: (2, 3))
    best = [Schedule([0, step, 8], 9) for step in (2, 6, 2)]
    mean = Schedule(wasserstein_barycentre(best, 3), 9, [2, 3])
    assert mean.computed_steps == (0, 3, 8)
    # The second pair found nothing besides that is as good as the warm start, the third neither.
    assert pool == [warm_start, mean, *(Schedule([0, step, 8], 9) for step in (2, 3, 6))]


def test_the_best_of_schedules_is_the_first_of_several() -> None:
    schedules = [Schedule([0, step, 8], 9) for step in (4, 1, 2, 3, 5)]
    losses = Losses(dict(zip(schedules, (3.0, 2.0, 4.0, 2.0, 5.0), strict=True)).__getitem__)
    assert best_of(schedules, losses) == schedules[1]
    assert losses.asked == [5]


@pytest.fixture
def policy(random_table: MakeTable) -> OTCachePolicy:
    """Of 4 and 9 steps, 6 between; its rho is none of those that are tried."""
    table, settings = random_table(STEPS, 0), EdgeSettings("displacement", 2.0)
    anchor, waypoint = Schedule([0, 1, 5, 13], STEPS, [1, 2, 3]), Schedule([0, 1, 4, 7, 10, 13], 14)
    reference = MeanCachePolicy(table, settings).schedule(9)
    return OTCachePolicy(anchor, reference, 0.5, table, settings, [waypoint])


@pytest.mark.parametrize("seed", range(5))
def test_rho_is_the_best_of_all_for_what_is_predicted(policy: OTCachePolicy, seed: int) -> None:
    def loss(schedule: Schedule) -> float:
        entropy = [*schedule.computed_steps, 0, *schedule.look_backs, seed]
        return float(np.random.default_rng(entropy).uniform())

    losses = Losses(loss)
    means = {rho: mean(replace(policy, rho=rho), loss, (5, 7, 8)) for rho in RHOS}
    assert len(set(means.values())) > 3
    chosen = tune_rho(policy, (5, 7, 8), losses)
    assert chosen == replace(policy, rho=min(means, key=lambda rho: means[rho]))
    assert losses.asked == [11 * 3]  # All of them are measured side by side.


def test_where_nothing_is_predicted_rho_stays(policy: OTCachePolicy) -> None:
    losses = Losses(lambda schedule: 1.0)
    assert tune_rho(policy, (), losses) is policy
    assert losses.asked == []
    assert tune_rho(policy, (5,), losses).rho == 0.8
