"""The choices made by the end-to-end loss are the best of all that there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

from otcache_plugin.calibration.search import AnchorSearch, Trial
from otcache_plugin.calibration.tuning import (
    POOL_SIZE,
    RHOS,
    best_of_pool,
    choose_endpoints,
    edge_settings,
    graph_candidates,
    pool_of_pairs,
    tune_graph,
    tuning_budgets,
)

STEPS = 14
BUDGETS = (4, 5, 7)
REFERENCE_BUDGET = 9
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


def anchors(table: EdgeTable, settings: EdgeSettings) -> list[Schedule]:
    return [
        Schedule(steps, STEPS, table.look_backs(steps, settings))
        for steps in [(0, 1, 5, 13), (0, 2, 9, 13), (0, 4, 8, 13), (0, 6, 7, 13)]
    ]


@pytest.mark.parametrize("seed", range(5))
def test_every_choice_is_the_best_with_the_choices_before(
    random_table: MakeTable, rugged_loss: Loss, seed: int
) -> None:
    table, losses = random_table(STEPS, seed), Losses(rugged_loss)
    graph = MeanCachePolicy(table, EdgeSettings("displacement", 2.0))
    own = graph.schedule(REFERENCE_BUDGET)
    candidates = [each.schedule(REFERENCE_BUDGET) for each in graph_candidates(table)]
    references = list(dict.fromkeys([own, *candidates]))
    pool = anchors(table, graph.settings)

    def loss(anchor: Schedule, reference: Schedule, rho: float) -> float:
        policy = OTCachePolicy(
            anchor, reference, rho, table, graph.settings, look_backs=anchor.look_backs
        )
        return mean(policy, rugged_loss, [*BUDGETS, REFERENCE_BUDGET])

    rho = min(RHOS, key=lambda each: loss(pool[0], own, each))
    anchor = min(pool, key=lambda each: loss(each, own, rho))
    reference = min(references, key=lambda each: loss(anchor, each, rho))
    last = min(RHOS, key=lambda each: loss(anchor, reference, each))
    chosen = choose_endpoints(pool, graph, references, BUDGETS, losses)
    assert (chosen.anchor, chosen.reference, chosen.rho) == (anchor, reference, last)
    assert (chosen.edges, chosen.settings) == (table, graph.settings)
    assert chosen.look_backs == anchor.look_backs
    tried = (len(RHOS), len(pool), len(references), len(RHOS))
    assert losses.asked == [count * (len(BUDGETS) + 1) for count in tried]
    assert len(references) > 1


def search(*trials: tuple[tuple[int, ...], float]) -> AnchorSearch:
    """A search from (0, 4, 8), of loss 5."""
    found = [Trial(Schedule(steps, 9), loss) for steps, loss in trials]
    return AnchorSearch(Trial(Schedule([0, 4, 8], 9), 5.0), tuple(found), ())


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


def test_the_pools_best_are_no_worse_than_the_warm_start() -> None:
    pool = [Schedule([0, step, 8], 9) for step in (4, 1, 2, 3, 5)]
    losses = dict(zip(pool, (3.0, 2.0, 4.0, 3.0, 1.0), strict=True))
    assert best_of_pool(pool, Losses(losses.__getitem__)) == [pool[4], pool[1], pool[0], pool[3]]
    assert best_of_pool(pool, Losses(lambda each: float(each != pool[0]))) == pool[:1]


def test_the_pools_best_are_a_dozen() -> None:
    pool = [Schedule([0, step, 39], 40) for step in range(1, 30)]
    falling = Losses(lambda each: -float(each.computed_steps[1]))
    assert best_of_pool(pool, falling) == pool[:-13:-1]
    assert POOL_SIZE == 12


@pytest.mark.parametrize(
    ("anchor", "reference", "budgets"),
    [
        (8, 20, (8, 10, 12, 15)),
        (4, 7, (4, 5, 6)),
        (2, 3, (2, 3)),
        (10, 40, (10, 15, 20, 28)),
    ],
)
def test_tuning_budgets(anchor: int, reference: int, budgets: tuple[int, ...]) -> None:
    assert tuning_budgets(anchor, reference) == budgets
