"""Choices that no theory settles, made on calibration pairs by the end-to-end loss.

How the edge table is read (cost, gamma, look-back rule) decides the graph method's schedules, and
the exponent of the warp, rho, decides OTCache's predictions.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, TypeVar, get_args

import numpy as np
from otcache_policies import (
    EdgeSettings,
    MeanCachePolicy,
    OTCachePolicy,
    Schedule,
    wasserstein_barycentre,
)
from otcache_policies.edges import Cost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_policies import EdgeTable, Policy

    from otcache_plugin.calibration.searching.candidates import ScheduleSearch

    Losses = Callable[[Sequence[Schedule]], list[float]]
    """Mean losses of schedules, measured side by side."""

AnyPolicy = TypeVar("AnyPolicy", bound="Policy")

COSTS: tuple[Cost, ...] = get_args(Cost)
LOOK_BACK_RULES = (None, 1, 2, 3)
GAMMAS = (1.0, 2.0, 4.0)
RHOS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3)
BEST_OF_EACH_PAIR = 2
"""Candidates that each pair's search puts into the pool."""


def edge_settings(max_look_back: int) -> tuple[EdgeSettings, ...]:
    """Return the readings that are tried of a table with look-backs up to `max_look_back`."""
    rules = [rule for rule in LOOK_BACK_RULES if rule is None or rule <= max_look_back]
    return tuple(
        EdgeSettings(cost, gamma, look_back)
        for cost, gamma, look_back in product(COSTS, GAMMAS, rules)
    )


def graph_candidates(edges: EdgeTable) -> tuple[MeanCachePolicy, ...]:
    """MeanCache with every reading of the edge table."""
    return tuple(
        MeanCachePolicy(edges, settings) for settings in edge_settings(edges.max_look_back)
    )


def tune_graph(edges: EdgeTable, budgets: Sequence[int], losses: Losses) -> MeanCachePolicy:
    """Return the graph policy with the lowest mean loss over the budgets."""
    return _best_policy(graph_candidates(edges), budgets, losses)


def pool_of_pairs(
    searches: Sequence[ScheduleSearch],
    warm_start: Schedule,
    look_backs: Callable[[tuple[int, ...]], tuple[int, ...]],
) -> list[Schedule]:
    """Return what searches of single pairs found, for all pairs to judge.

    Each pair's best few, the barycentre of the pairs' best, and the warm start, so that the anchor
    is never worse than that over the calibration pairs.
    """
    best = [search.best(BEST_OF_EACH_PAIR) for search in searches]
    mean = wasserstein_barycentre([each[0].schedule for each in best], warm_start.budget)
    barycentre = Schedule(mean, warm_start.num_inference_steps, look_backs(mean))
    found = [trial.schedule for each in best for trial in each]
    return list(dict.fromkeys([warm_start, barycentre, *found]))


def best_of(schedules: Sequence[Schedule], losses: Losses) -> Schedule:
    """Return the schedule with the lowest mean loss, the first of several."""
    return schedules[int(np.argmin(losses(schedules)))]


def tune_rho(policy: OTCachePolicy, budgets: Sequence[int], losses: Losses) -> OTCachePolicy:
    """Return the policy with the rho whose predictions have the lowest mean loss over the budgets.

    Unchanged where there is no budget to predict.
    """
    if not budgets:
        return policy
    return _best_policy([replace(policy, rho=rho) for rho in RHOS], budgets, losses)


def _best_policy(
    policies: Sequence[AnyPolicy], budgets: Sequence[int], losses: Losses
) -> AnyPolicy:
    """Return the policy with the lowest mean loss over the budgets, the first of several."""
    schedules = [policy.schedule(budget) for policy in policies for budget in budgets]
    means = np.reshape(losses(schedules), (len(policies), len(budgets))).mean(axis=1)
    return policies[int(means.argmin())]
