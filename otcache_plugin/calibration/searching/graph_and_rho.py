"""Choices that no theory settles, made on calibration pairs by the end-to-end loss.

How the edge table is read (cost, gamma, look-back rule) decides the graph method's schedules, and
the exponent of the warp, rho, decides OTCache's predictions.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, TypeVar

from otcache_policies import EdgeSettings, MeanCachePolicy, OTCachePolicy

from otcache_plugin.calibration.settings import COSTS, GAMMAS, LOOK_BACK_RULES, RHOS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_policies import EdgeTable, Policy, Schedule

    Best = Callable[[Sequence[Sequence[Schedule]]], int]
    """The number of the candidate whose schedules have the lowest mean loss, the first of several;
    all are measured side by side."""

AnyPolicy = TypeVar("AnyPolicy", bound="Policy")


def edge_settings(max_look_back: int) -> tuple[EdgeSettings, ...]:
    """Return the readings that are tried of a table with look-backs up to `max_look_back`."""
    rules = [rule for rule in LOOK_BACK_RULES if rule is None or rule <= max_look_back]
    return tuple(
        EdgeSettings(cost, gamma, look_back)
        for cost, gamma, look_back in product(COSTS, GAMMAS, rules)
    )


def graph_candidates(edges: EdgeTable) -> tuple[MeanCachePolicy, ...]:
    """Return MeanCache with every reading of the edge table."""
    return tuple(
        MeanCachePolicy(edges, settings) for settings in edge_settings(edges.max_look_back)
    )


def tune_graph(edges: EdgeTable, budgets: Sequence[int], best: Best) -> MeanCachePolicy:
    """Return the graph policy with the lowest mean loss over the budgets."""
    return best_policy(graph_candidates(edges), budgets, best)


def best_of(schedules: Sequence[Schedule], best: Best) -> Schedule:
    """Return the schedule with the lowest mean loss, the first of several.

    Raises:
        NotFiniteError: none has one, likewise with the other choices.
    """
    return schedules[best([[schedule] for schedule in schedules])]


def tune_rho(policy: OTCachePolicy, budgets: Sequence[int], best: Best) -> OTCachePolicy:
    """Return the policy with the rho whose predictions have the lowest mean loss over the budgets.

    Unchanged where there is no budget to predict.
    """
    if not budgets:
        return policy
    return best_policy([replace(policy, rho=rho) for rho in RHOS], budgets, best)


def best_policy(policies: Sequence[AnyPolicy], budgets: Sequence[int], best: Best) -> AnyPolicy:
    """Return the policy with the lowest mean loss over the budgets, the first of several."""
    return policies[best([[policy.schedule(each) for each in budgets] for policy in policies])]
