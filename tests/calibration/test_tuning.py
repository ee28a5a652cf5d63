"""The choices made by the end-to-end loss are the best of all that there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from otcache_policies import (
    EdgeSettings,
    EdgeTable,
    MeanCachePolicy,
    OTCachePolicy,
    Policy,
    Schedule,
)

from otcache_plugin.calibration.anchor import Trial
from otcache_plugin.calibration.tuning import RHOS, choose_anchor, tune_graph, tuning_budgets

STEPS = 14
BUDGETS = (4, 5, 7)
Loss = Callable[[Schedule], float]
MakeTable = Callable[[int, int], EdgeTable]


def mean(policy: Policy, loss: Loss) -> float:
    return sum(loss(policy.schedule(budget)) for budget in BUDGETS) / len(BUDGETS)


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_policy_is_the_best_of_all_settings(
    random_table: MakeTable, rugged_loss: Loss, seed: int
) -> None:
    table = random_table(STEPS, seed)
    losses = {}
    for cost in ("velocity", "displacement"):
        for gamma in (1.0, 2.0, 4.0):
            for look_back in (None, 1, 2, 3):
                settings = EdgeSettings(cost, gamma, look_back)
                losses[settings] = mean(MeanCachePolicy(table, settings), rugged_loss)
    tried = []
    chosen = tune_graph(table, BUDGETS, rugged_loss, lambda: tried.append(1))
    assert chosen.edges is table
    assert losses[chosen.settings] == min(losses.values())
    assert len(set(losses.values())) > 3
    assert len(tried) == len(losses) == 24


@pytest.mark.parametrize("seed", range(5))
def test_no_rho_and_no_anchor_along_the_way_is_better_than_the_choice(
    random_table: MakeTable, rugged_loss: Loss, seed: int
) -> None:
    table = random_table(STEPS, seed)
    graph = MeanCachePolicy(table, EdgeSettings("displacement", 2.0))
    reference = graph.schedule(9)
    pool = [
        Trial(Schedule(steps, STEPS, table.look_backs(steps, graph.settings)), 0.0)
        for steps in [(0, 1, 5, 13), (0, 2, 9, 13), (0, 4, 8, 13), (0, 6, 7, 13)]
    ]

    def loss(anchor: Schedule, rho: float) -> float:
        return mean(OTCachePolicy(anchor, reference, rho, table, graph.settings), rugged_loss)

    tried = []
    chosen = choose_anchor(pool, graph, reference, BUDGETS, rugged_loss, lambda: tried.append(1))
    anchors, best = [trial.schedule for trial in pool], loss(chosen.anchor, chosen.rho)
    assert chosen.anchor in anchors
    first_rho = min(RHOS, key=lambda rho: loss(anchors[0], rho))
    assert best == min(loss(chosen.anchor, rho) for rho in RHOS)
    assert best <= min(loss(anchor, first_rho) for anchor in anchors)
    assert best <= min(loss(anchors[0], rho) for rho in RHOS)
    assert len({loss(chosen.anchor, rho) for rho in RHOS}) > 1
    assert len(tried) == 2 * len(RHOS) + len(pool)
    assert (chosen.reference, chosen.edges, chosen.settings) == (reference, table, graph.settings)


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
