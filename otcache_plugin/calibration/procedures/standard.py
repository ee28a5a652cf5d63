"""Standard: the recording, and a race of few real runs at every budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from otcache_plugin.calibration.procedures.procedure import Choice, calibrated, recorded
from otcache_plugin.calibration.racing.candidates import Recorded
from otcache_plugin.calibration.racing.plan import RacePlan
from otcache_plugin.calibration.racing.race import Race
from otcache_plugin.calibration.searching.graph_and_rho import graph_candidates
from otcache_plugin.parameters.served import ServedBudget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_policies import Gains

    from otcache_plugin.calibration.racing.finals import Winner
    from otcache_plugin.calibration.searching.search_algorithm import SearchAlgorithm
    from otcache_plugin.calibration.settings import OTCacheOptions
    from otcache_plugin.plugins.calibrating import Calibrated, CalibrationContext
    from otcache_plugin.plugins.costs import StageCost, Workload


@dataclass(frozen=True)
class Standard:
    """A recording and a race."""

    outcome: str = (
        "the graph policy's schedule at every budget, unless another is better beyond its standard "
        "error on fresh pairs"
    )
    fewest_pairs: int = 16
    usual_pairs: int = 48

    def costs(
        self, options: OTCacheOptions, algorithm: SearchAlgorithm, workload: Workload
    ) -> Sequence[StageCost]:
        """Return the cost of recording and of the race."""
        plan = RacePlan(workload.num_inference_steps, workload.pairs, options.served_budgets)
        return (workload.recording, *plan.costs(workload))

    def calibrate(
        self, options: OTCacheOptions, algorithm: SearchAlgorithm, context: CalibrationContext
    ) -> Calibrated:
        """Record, and let the families race."""
        winners, gains = raced(race_plan(options, context), context)
        return calibrated(options, choice_of(winners, gains), recorded(context, None), context)


def race_plan(options: OTCacheOptions, context: CalibrationContext) -> RacePlan:
    """Return what a race of all calibration pairs spends."""
    pairs = context.batches[-1].stop
    return RacePlan(context.num_inference_steps, pairs, options.served_budgets)


def raced(plan: RacePlan, context: CalibrationContext) -> tuple[dict[int, Winner], Gains | None]:
    """Return who wins at every budget, and the gains that the runs were explained by."""
    return Race(plan, recorded_for(plan, context), context).run()


def recorded_for(plan: RacePlan, context: CalibrationContext) -> Recorded:
    """Return what the recording says in a race.

    What is searched for sees half of the pairs. The graph policy, which serves a budget where
    nothing else is better, reads its edges from all of them: else what the others have to beat
    would be worse than what the recording alone gives.
    """
    return Recorded(context.grams(plan.searching), graph_candidates(context.edges(None)))


def choice_of(winners: Mapping[int, Winner], gains: Gains | None) -> Choice:
    """Return the winners as what serves every budget."""
    schedules = {budget: each.candidate.schedule for budget, each in winners.items()}
    return Choice(schedules, served(winners), gains)


def served(winners: Mapping[int, Winner]) -> list[ServedBudget]:
    """Return who serves each budget, and how the best of the other families did."""
    found = []
    for budget, winner in winners.items():
        verdict = winner.verdict
        finite = bool(np.isfinite(verdict.gain))
        found.append(
            ServedBudget(
                budget=budget,
                family=winner.candidate.family,
                gain=verdict.gain if finite else None,
                standard_error=verdict.standard_error if finite else None,
                pairs=verdict.pairs if finite else None,
            )
        )
    return found
