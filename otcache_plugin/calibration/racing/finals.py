"""The finals of a race: on pairs that nothing was searched on, the simpler stays unless beaten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.measuring.losses import ScheduleLoss, not_finite
from otcache_plugin.calibration.racing.candidates import GRAPH, Candidate
from otcache_plugin.calibration.racing.verdict import Verdict, verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from otcache_plugin.calibration.racing.heats import Heats
    from otcache_plugin.plugins.calibrating import CalibrationContext
    from otcache_plugin.plugins.measured import DisplacedRun


@dataclass(frozen=True)
class Winner:
    """What serves a budget.

    Attributes:
        candidate: that won.
        graph: the best of the graph policy's, which it was compared to.
        verdict: how the best of the other families did in the final against that one.
    """

    candidate: Candidate
    graph: Candidate
    verdict: Verdict


def finals(
    survivors: Mapping[int, Sequence[Candidate]], pairs: Mapping[int, range], heats: Heats
) -> dict[int, Winner]:
    """Return who serves each budget after the best of both families have run on fresh pairs.

    Args:
        survivors: of the heats, by budget.
        pairs: of each budget's final.
        heats: in which they were run.

    Raises:
        NotFiniteError: neither has a finite loss at every pair.
    """
    finalists = {}
    for budget, candidates in survivors.items():
        families = (each for each in by_family(candidates) if each)
        finalists[budget] = [min(each, key=heats.mean) for each in families]
    requests = [
        (each.schedule, pairs[budget])
        for budget, candidates in finalists.items()
        for each in candidates
    ]
    heats.context.start_runs(stages.FINAL, requests)
    found = iter(heats.context.displaced(requests))
    return {
        budget: _winner(
            candidates, [_judged(each, next(found), heats) for each in candidates], heats
        )
        for budget, candidates in finalists.items()
    }


def _judged(candidate: Candidate, final: DisplacedRun, heats: Heats) -> NDArray[np.float64]:
    """Return the losses in a final, or those in the heats where one of them is not finite."""
    before = heats.losses(candidate.schedule)
    return final.losses if np.isfinite(before).all() else before


def _winner(
    candidates: Sequence[Candidate], losses: Sequence[NDArray[np.float64]], heats: Heats
) -> Winner:
    finite = [bool(np.isfinite(each).all()) for each in losses]
    if not any(finite):
        metric = heats.context.metric
        raise not_finite(
            [
                ScheduleLoss(each.schedule, metric, own)
                for each, own in zip(candidates, losses, strict=True)
            ]
        )
    graph, other = candidates[0], candidates[-1]
    verdict = verdict_of(losses[0], losses[-1])
    return Winner(other if verdict.ahead else graph, graph, verdict)


def challenged(
    stage: str,
    winners: Mapping[int, Winner],
    challengers: Mapping[int, Candidate],
    pairs: Mapping[int, range],
    context: CalibrationContext,
) -> dict[int, Winner]:
    """Return who serves each budget after a challenger of some has run on fresh pairs.

    A winner stays unless its challenger is better beyond its standard error. How far one that takes
    its place is ahead is said in terms of the graph policy's schedule, as for the others.
    """
    contested = {
        budget: (winners[budget].graph, winners[budget].candidate, challenger)
        for budget, challenger in challengers.items()
        if challenger.schedule != winners[budget].candidate.schedule
    }
    requests = [
        (each.schedule, pairs[budget]) for budget, three in contested.items() for each in three
    ]
    context.start_runs(stage, requests)
    found = iter(context.displaced(requests))
    after = dict(winners)
    for budget, (graph, _, challenger) in contested.items():
        simplest, holding, challenging = (next(found).losses for _ in range(3))
        if verdict_of(holding, challenging).ahead:
            after[budget] = Winner(challenger, graph, verdict_of(simplest, challenging))
    return after


def by_family(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Return the graph policy's candidates, and the others."""
    graph = [each for each in candidates if each.family == GRAPH]
    return graph, [each for each in candidates if each.family != GRAPH]
