"""Choices that no theory settles, made on calibration pairs by the end-to-end loss.

How the edge table is read (cost, gamma, look-back rule) decides the graph method's schedules, and
which searched candidate becomes the anchor, with which rho, decides OTCache's. Both are chosen by
the mean loss over the same budgets, so that the two methods are tuned alike.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from otcache_policies import EdgeSettings, MeanCachePolicy, OTCachePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_policies import EdgeTable, Policy, Schedule

    from otcache_plugin.calibration.anchor import Trial

LOOK_BACK_RULES = (None, 1, 2, 3)
GAMMAS = (1.0, 2.0, 4.0)
RHOS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3)

EDGE_SETTINGS = tuple(
    EdgeSettings(cost, gamma, look_back)
    for cost, gamma, look_back in product(("velocity", "displacement"), GAMMAS, LOOK_BACK_RULES)
)
"""The readings of an edge table that are tried."""


def tuning_budgets(anchor_budget: int, reference_budget: int) -> tuple[int, ...]:
    """Four budgets from the anchor's on, denser at its end: 8, 10, 12 and 15 for 8 and 20."""
    width = reference_budget - anchor_budget
    return tuple(
        sorted({anchor_budget + round(width * share) for share in (0, 1 / 6, 1 / 3, 7 / 12)})
    )


def tune_graph(
    edges: EdgeTable,
    budgets: Sequence[int],
    loss: Callable[[Schedule], float],
    on_tried: Callable[[], None] = lambda: None,
) -> MeanCachePolicy:
    """The graph policy with the lowest mean loss over the budgets."""

    def mean_loss(policy: MeanCachePolicy) -> float:
        mean = _mean_loss(policy, budgets, loss)
        on_tried()
        return mean

    return min((MeanCachePolicy(edges, settings) for settings in EDGE_SETTINGS), key=mean_loss)


def choose_anchor(
    pool: Sequence[Trial],
    graph: MeanCachePolicy,
    reference: Schedule,
    budgets: Sequence[int],
    loss: Callable[[Schedule], float],
    on_tried: Callable[[], None] = lambda: None,
) -> OTCachePolicy:
    """The anchor of the pool, and the rho, whose predictions have the lowest mean loss.

    An anchor is searched for one budget and used for all up to the reference's. The best few of a
    search differ little there and much in what they predict, so the whole family is scored: rho
    for the best anchor, the anchor for that rho, and rho once more for that anchor.
    """

    def mean_loss(policy: OTCachePolicy) -> float:
        mean = _mean_loss(policy, budgets, loss)
        on_tried()
        return mean

    def best_of(anchors: Sequence[Schedule], rhos: Sequence[float]) -> OTCachePolicy:
        family = (
            OTCachePolicy(anchor, reference, rho, graph.edges, graph.settings)
            for anchor, rho in product(anchors, rhos)
        )
        return min(family, key=mean_loss)

    first = best_of([pool[0].schedule], RHOS)
    second = best_of([trial.schedule for trial in pool], [first.rho])
    return best_of([second.anchor], RHOS)


def _mean_loss(policy: Policy, budgets: Sequence[int], loss: Callable[[Schedule], float]) -> float:
    return sum(loss(policy.schedule(budget)) for budget in budgets) / len(budgets)
