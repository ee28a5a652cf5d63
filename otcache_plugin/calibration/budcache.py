"""Calibrating BudCache (arXiv 2606.13496): annealing and descent, once for each budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.searched import SearchedCalibrator, SearchedOptions, calibrated
from otcache_plugin.calibration.searching.annealing import Annealing, most_trials
from otcache_plugin.calibration.searching.journal import searched_trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_policies import Schedule

    from otcache_plugin.plugins.calibrating import Calibrated, CalibrationContext
    from otcache_plugin.plugins.costs import StageCost, Workload

SEARCHING = "annealing and descent"

METRIC = "latent-mse"
"""What is minimised, in whatever metric the policy is judged afterwards."""

LOOK_BACK = 2
"""Of segments with cached steps, as in uniform schedules; 1 where the scheduler allows no more."""

USUAL_PAIRS = 16


class BudCacheCalibrator(SearchedCalibrator):
    """Searches every budget by the error of the last latents, all of them side by side."""

    options = SearchedOptions

    def usual_pairs(self, options: SearchedOptions) -> int:
        """Return few: every candidate runs on all of them."""
        return USUAL_PAIRS

    def costs(self, options: SearchedOptions, workload: Workload) -> Sequence[StageCost]:
        """Return the cost of recording, and of as many candidates as the searches may try."""
        budgets = options.usual_budgets(workload.num_inference_steps)
        tried = [budget for budget in budgets for _ in range(most_trials(budget))]
        return workload.recording, workload.tried(SEARCHING, 1, tried)

    def calibrate(self, options: SearchedOptions, context: CalibrationContext) -> Calibrated:
        """Search."""
        total = context.num_inference_steps
        look_back = min(LOOK_BACK, context.edges().max_look_back)
        budgets = options.usual_budgets(total)
        context.start_search(SEARCHING, sum(map(most_trials, budgets)))

        def annealing(budget: int) -> Annealing:
            study = context.study(stages.waypoint(budget))

            def keep(schedule: Schedule, error: float) -> None:
                study.keep(searched_trial(schedule, error))
                context.advance()

            return Annealing(budget, total, look_back, context.seed, context.batches, keep)

        searches = {stages.waypoint(budget): annealing(budget).search() for budget in budgets}
        found = list(context.drive(searches, METRIC).values())
        return calibrated(found, options, {"searched_by": METRIC}, context)
