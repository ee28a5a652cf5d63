"""Quick: the recording alone, whose quadratic form is minimised at every budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.procedures.procedure import (
    Choice,
    calibrated,
    recorded,
)
from otcache_plugin.calibration.racing.candidates import BASE_DAMPING, OPTIMISED
from otcache_plugin.efforts import QUICK_PAIRS
from otcache_plugin.parameters.served import ServedBudget
from otcache_plugin.plugins.costs import StageCost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.calibration.searching.search_algorithm import SearchAlgorithm
    from otcache_plugin.calibration.settings import OTCacheOptions
    from otcache_plugin.plugins.calibrating import Calibrated, CalibrationContext
    from otcache_plugin.plugins.costs import Workload


@dataclass(frozen=True)
class Quick:
    """A recording and nothing else."""

    outcome: str = (
        "schedules from the recording alone, usually ahead of the graph policy's; none was "
        "confirmed by a real run"
    )
    fewest_pairs: int = 2
    usual_pairs: int = QUICK_PAIRS

    def costs(
        self, options: OTCacheOptions, algorithm: SearchAlgorithm, workload: Workload
    ) -> Sequence[StageCost]:
        """Return the cost of recording, and of minimising the form at every budget."""
        return (
            workload.recording,
            StageCost.without_model(stages.OPTIMISING, len(options.served_budgets)),
        )

    def calibrate(
        self, options: OTCacheOptions, algorithm: SearchAlgorithm, context: CalibrationContext
    ) -> Calibrated:
        """Record, and minimise the form of all pairs at every budget."""
        found = recorded(context, None)
        form = found.form(BASE_DAMPING)
        context.start_search(stages.OPTIMISING, len(options.served_budgets))
        schedules = {}
        for budget in options.served_budgets:
            schedules[budget] = found.optimised(budget, form, found.graph(budget)[:1])
            context.advance()
        served = [ServedBudget(budget=budget, family=OPTIMISED) for budget in schedules]
        return calibrated(options, Choice(schedules, served), found, context)
