"""Thorough: the race, and searches on the real model that its winners have to stand up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_policies.prediction import vanishing_warp

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.procedures.procedure import calibrated, recorded
from otcache_plugin.calibration.procedures.standard import choice_of, race_plan, raced
from otcache_plugin.calibration.racing.candidates import PREDICTED, SEARCHED, Candidate
from otcache_plugin.calibration.racing.finals import challenged
from otcache_plugin.calibration.racing.plan import RacePlan
from otcache_plugin.calibration.searching.running import run_searches
from otcache_plugin.calibration.searching.scopes import JointSearch
from otcache_plugin.plugins.costs import Runs, StageCost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_plugin.calibration.racing.finals import Winner
    from otcache_plugin.calibration.searching.search_algorithm import SearchAlgorithm
    from otcache_plugin.calibration.settings import OTCacheOptions
    from otcache_plugin.plugins.calibrating import Calibrated, CalibrationContext
    from otcache_plugin.plugins.costs import Workload

CHALLENGES = 3
"""Schedules of each budget that run on all selection pairs: two, and what they are compared to."""


@dataclass(frozen=True)
class Thorough:
    """A recording, a race, and searches."""

    outcome: str = (
        "as standard, and what searches on the model find where fresh pairs confirm it; searches "
        "usually end before their last trial"
    )
    fewest_pairs: int = 16
    usual_pairs: int = 96

    def costs(
        self, options: OTCacheOptions, algorithm: SearchAlgorithm, workload: Workload
    ) -> Sequence[StageCost]:
        """Return the cost of recording, of the race, and of the searches and their finals."""
        plan = RacePlan(workload.num_inference_steps, workload.pairs, options.served_budgets)
        searched = options.searched_budgets
        return (
            workload.recording,
            *plan.costs(workload),
            *(
                workload.at_most(
                    stages.searching(stages.waypoint(budget)),
                    [Runs(budget, 1 + algorithm.trials, plan.searching)],
                )
                for budget in searched
            ),
            workload.at_most(
                stages.SEARCHED_FINAL,
                [Runs(budget, CHALLENGES, plan.selecting) for budget in searched],
            ),
            workload.at_most(
                stages.PREDICTED_FINAL,
                [
                    Runs(budget, CHALLENGES, plan.selecting)
                    for budget in options.served_budgets
                    if budget not in searched
                ],
            ),
        )

    def calibrate(
        self, options: OTCacheOptions, algorithm: SearchAlgorithm, context: CalibrationContext
    ) -> Calibrated:
        """Record, let the families race, search from the winners, and predict between."""
        plan = race_plan(options, context)
        winners, gains = raced(plan, context)
        found = recorded(context, None)
        searched = {
            budget: _searched(
                budget, winners[budget], plan, found.largest_look_back, algorithm, context
            )
            for budget in options.searched_budgets
        }
        selecting = dict.fromkeys(winners, plan.selecting)
        winners = challenged(stages.SEARCHED_FINAL, winners, searched, selecting, context)
        predicted = _predicted(winners, options.searched_budgets)
        winners = challenged(stages.PREDICTED_FINAL, winners, predicted, selecting, context)
        return calibrated(options, choice_of(winners, gains), found, context)


def _searched(
    budget: int,
    winner: Winner,
    plan: RacePlan,
    max_look_back: int,
    algorithm: SearchAlgorithm,
    context: CalibrationContext,
) -> Candidate:
    """Return what a search on the searching pairs makes of a winner."""
    name, batches = stages.waypoint(budget), context.batches_within(plan.searching)
    panels = JointSearch().panels(name, batches)
    start = winner.candidate.schedule
    (search,) = run_searches(name, start, panels, max_look_back, algorithm, context)
    return Candidate(SEARCHED, search.best(1)[0].schedule)


def _predicted(winners: Mapping[int, Winner], searched: Sequence[int]) -> dict[int, Candidate]:
    """Return the prediction for every budget between two searched ones, from their winners."""
    found = {}
    for budget in winners:
        below = [each for each in searched if each < budget]
        above = [each for each in (*searched, max(winners)) if each > budget]
        if budget in searched or not below or not above:
            continue
        smaller, larger = winners[below[-1]], winners[above[0]]
        schedule = vanishing_warp(
            smaller.candidate.schedule, larger.candidate.schedule, budget, 1.0
        )
        found[budget] = Candidate(PREDICTED, schedule)
    return found
