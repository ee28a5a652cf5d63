"""Choices that no theory settles, made on calibration pairs by the end-to-end loss.

How the edge table is read (cost, gamma, look-back rule) decides the graph method's schedules, and
which searched candidate becomes the anchor, with which rho, decides OTCache's. Both are chosen by
the mean loss over the same budgets, so that the two methods are tuned alike.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from otcache_policies import (
    EdgeSettings,
    MeanCachePolicy,
    OTCachePolicy,
    Schedule,
    wasserstein_barycentre,
)

from otcache_plugin.calibration.search import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_policies import EdgeTable, Policy

    from otcache_plugin.calibration.search import AnchorSearch

    Losses = Callable[[Sequence[Schedule]], list[float]]
    """Mean losses of schedules, measured side by side."""

AnyPolicy = TypeVar("AnyPolicy", bound="Policy")

LOOK_BACK_RULES = (None, 1, 2, 3)
GAMMAS = (1.0, 2.0, 4.0)
RHOS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3)
POOL_SIZE = 12
"""Candidates of the anchor search whose predictions are scored."""
BEST_OF_EACH_PAIR = 2
"""Candidates that each pair's search puts into the pool."""


def edge_settings(max_look_back: int) -> tuple[EdgeSettings, ...]:
    """The readings that are tried of a table with look-backs up to ``max_look_back``."""
    rules = [rule for rule in LOOK_BACK_RULES if rule is None or rule <= max_look_back]
    return tuple(
        EdgeSettings(cost, gamma, look_back)
        for cost, gamma, look_back in product(("velocity", "displacement"), GAMMAS, rules)
    )


def tuning_budgets(anchor_budget: int, reference_budget: int) -> tuple[int, ...]:
    """Four budgets from the anchor's on, denser at its end: 8, 10, 12 and 15 for 8 and 20."""
    width = reference_budget - anchor_budget
    return tuple(
        sorted({anchor_budget + round(width * share) for share in (0, 1 / 6, 1 / 3, 7 / 12)})
    )


def graph_candidates(edges: EdgeTable) -> tuple[MeanCachePolicy, ...]:
    """MeanCache with every reading of the edge table."""
    return tuple(
        MeanCachePolicy(edges, settings) for settings in edge_settings(edges.max_look_back)
    )


def tune_graph(edges: EdgeTable, budgets: Sequence[int], losses: Losses) -> MeanCachePolicy:
    """The graph policy with the lowest mean loss over the budgets."""
    return _best_policy(graph_candidates(edges), budgets, losses)


def pool_of_pairs(
    searches: Sequence[AnchorSearch],
    warm_start: Schedule,
    look_backs: Callable[[tuple[int, ...]], tuple[int, ...]],
) -> list[Schedule]:
    """What searches of single pairs found, for all pairs to judge.

    Each pair's best few, the barycentre of the pairs' best, and the warm start, so that the anchor
    is never worse than that over the calibration pairs.
    """
    best = [search.best(BEST_OF_EACH_PAIR) for search in searches]
    mean = wasserstein_barycentre([each[0].schedule for each in best], warm_start.budget)
    barycentre = Schedule(mean, warm_start.num_inference_steps, look_backs(mean))
    found = [trial.schedule for each in best for trial in each]
    return list(dict.fromkeys([warm_start, barycentre, *found]))


def best_of_pool(pool: Sequence[Schedule], losses: Losses) -> list[Schedule]:
    """The pool's best, best first, none worse than the warm start, its first schedule."""
    scored = [Trial(schedule, loss) for schedule, loss in zip(pool, losses(pool), strict=True)]
    ranked = sorted(scored, key=lambda trial: trial.loss)
    return [trial.schedule for trial in ranked if trial.loss <= scored[0].loss][:POOL_SIZE]


def choose_endpoints(
    pool: Sequence[Schedule],
    graph: MeanCachePolicy,
    references: Sequence[Schedule],
    budgets: Sequence[int],
    losses: Losses,
) -> OTCachePolicy:
    """The anchor, the reference and rho whose predictions have the lowest mean loss.

    An anchor is searched for one budget and used for all up to the reference's. The best few of a
    search differ little there and much in what they predict, and so do the graph policy's schedules
    at the reference's budget. So the whole family is scored, in one choice after the other: rho,
    the anchor, the reference, and rho once more.

    Args:
        pool: anchors, best first.
        graph: what reads the edge table.
        references: schedules of the reference's budget, the graph's own first.
        budgets: of the family.
        losses: of schedules.
    """
    family = [*budgets, references[0].budget]

    def best_of(
        anchors: Sequence[Schedule], ends: Sequence[Schedule], rhos: Sequence[float]
    ) -> OTCachePolicy:
        policies = [
            OTCachePolicy(anchor, reference, rho, graph.edges, graph.settings, anchor.look_backs)
            for anchor, reference, rho in product(anchors, ends, rhos)
        ]
        return _best_policy(policies, family, losses)

    found = best_of(pool[:1], references[:1], RHOS)
    found = best_of(pool, references[:1], [found.rho])
    found = best_of([found.anchor], references, [found.rho])
    return best_of([found.anchor], [found.reference], RHOS)


def _best_policy(
    policies: Sequence[AnyPolicy], budgets: Sequence[int], losses: Losses
) -> AnyPolicy:
    """The policy with the lowest mean loss over the budgets, the first of several."""
    schedules = [policy.schedule(budget) for policy in policies for budget in budgets]
    means = np.reshape(losses(schedules), (len(policies), len(budgets))).mean(axis=1)
    return policies[int(means.argmin())]
