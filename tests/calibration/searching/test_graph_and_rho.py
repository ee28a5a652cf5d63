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
)
from otcache_policies.prediction import constant_warp

from otcache_plugin.calibration.errors import NotFiniteError
from otcache_plugin.calibration.measuring.losses import ScheduleLoss, lowest
from otcache_plugin.calibration.searching.graph_and_rho import (
    best_of,
    edge_settings,
    graph_candidates,
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
    """Chooses by the losses of schedules; how many were asked for each time."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.asked: list[int] = []

    def __call__(self, candidates: Sequence[Sequence[Schedule]]) -> int:
        self.asked.append(sum(map(len, candidates)))
        return lowest([[self._measured(each) for each in schedules] for schedules in candidates])

    def _measured(self, schedule: Schedule) -> ScheduleLoss:
        return ScheduleLoss(schedule, "a loss", np.array([self.loss(schedule)]))


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


def test_the_best_of_schedules_is_the_first_of_several() -> None:
    schedules = [Schedule([0, step, 8], 9) for step in (4, 1, 2, 3, 5)]
    losses = Losses(dict(zip(schedules, (3.0, 2.0, 4.0, 2.0, 5.0), strict=True)).__getitem__)
    assert best_of(schedules, losses) == schedules[1]
    assert losses.asked == [5]


@pytest.fixture
def policy(random_table: MakeTable) -> OTCachePolicy:
    """Of 4 and 9 steps, 6 between; its rho is none of those that are tried.

    Its warp is the paper's, in which every rho tells.
    """
    table, settings = random_table(STEPS, 0), EdgeSettings("displacement", 2.0)
    anchor, waypoint = Schedule([0, 1, 5, 13], STEPS, [1, 2, 3]), Schedule([0, 1, 4, 7, 10, 13], 14)
    reference = MeanCachePolicy(table, settings).schedule(9)
    return OTCachePolicy(anchor, reference, 0.5, table, settings, [waypoint], warp=constant_warp)


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


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("failed", [NAN, INF, -INF])
def test_what_has_no_finite_loss_is_never_chosen(failed: float) -> None:
    schedules = [Schedule([0, step, 8], 9) for step in (4, 1, 2, 3, 5)]
    losses = Losses(dict(zip(schedules, (failed, 2.0, failed, 1.0, failed), strict=True)).get)
    assert best_of(schedules, losses) == schedules[3]


@pytest.mark.parametrize("failed", [NAN, INF, -INF])
def test_one_budget_without_a_finite_loss_rules_a_rho_out(
    policy: OTCachePolicy, failed: float
) -> None:
    """Whatever that rho does at the other budgets."""
    worst = {replace(policy, rho=rho).schedule(7) for rho in RHOS[:5]}
    others = [rho for rho in RHOS if replace(policy, rho=rho).schedule(7) not in worst]
    assert 0 < len(others) < len(RHOS)
    losses = Losses(lambda schedule: failed if schedule in worst else float(schedule.budget))
    assert tune_rho(policy, (5, 7, 8), losses).rho == others[0]


@pytest.mark.parametrize("failed", [NAN, INF, -INF])
def test_a_reading_without_a_finite_loss_is_never_chosen(
    random_table: MakeTable, failed: float
) -> None:
    table = random_table(STEPS, 0)
    first = graph_candidates(table)[0].schedule(5)
    losses = Losses(lambda schedule: failed if schedule == first else 1.0)
    chosen = tune_graph(table, BUDGETS, losses)
    assert chosen.schedule(5) != first


@pytest.mark.parametrize("failed", [NAN, INF, -INF])
def test_where_nothing_is_finite_the_error_says_what_was_run(failed: float) -> None:
    def best(candidates: Sequence[Sequence[Schedule]]) -> int:
        losses = np.array([1.0, failed, 2.0])
        return lowest([[ScheduleLoss(each, "psnr", losses) for each in e] for e in candidates])

    schedules = [Schedule([0, step, 8], 9) for step in (4, 1)]
    with pytest.raises(NotFiniteError) as caught:
        best_of(schedules, best)
    assert str(caught.value) == (
        "metric='psnr': the 2 schedules that were run leave no choice whose losses are finite; "
        "that of the steps (0, 4, 8) with look-backs (1, 1) is not finite at the pairs 1 of 0 … 2. "
        "Look at what the metric gives for such outputs, or use another one."
    )
