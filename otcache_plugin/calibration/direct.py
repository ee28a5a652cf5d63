"""Calibrating by search alone: every budget on the real model, by the metric that is asked for.

Each search begins at the graph policy's best schedule of its budget, and is never worse than that
on the calibration pairs. It is what predictions and surrogates stand in for, at its price.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.searched import SearchedCalibrator, SearchedOptions, calibrated
from otcache_plugin.calibration.searching.default_search import ClimbsAndRounds
from otcache_plugin.calibration.searching.graph_and_rho import (
    best_of,
    edge_settings,
    graph_candidates,
)
from otcache_plugin.calibration.searching.running import run_searches
from otcache_plugin.calibration.searching.scopes import JointSearch
from otcache_plugin.calibration.settings import SearchSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_plugin.plugins.calibrating import Calibrated, CalibrationContext
    from otcache_plugin.plugins.costs import StageCost, Workload

USUAL_PAIRS = 48


class DirectOptions(SearchedOptions):
    """Which budgets are searched, and for how long."""

    trials: Annotated[int, Field(description="CMA-ES candidates of each search.")] = 200
    patience: Annotated[int, Field(description="Trials without improvement.")] = 50

    def check(self, steps: int) -> None:
        """Refuse budgets that are none of so many steps, and searches that are none."""
        super().check(steps)
        self.algorithm()

    def algorithm(self) -> ClimbsAndRounds:
        """Return the search algorithm, which OTCache's anchor is searched with, too."""
        return ClimbsAndRounds(SearchSettings(trials=self.trials, patience=self.patience))


class DirectCalibrator(SearchedCalibrator):
    """Searches one budget after the other, on all pairs at once."""

    options = DirectOptions

    def usual_pairs(self, options: DirectOptions) -> int:
        """Return as many as keep a search from finding the luckiest schedule of few."""
        return USUAL_PAIRS

    def determined_by(self, options: DirectOptions) -> Mapping[str, Any]:
        """Return the search algorithm, and how it is set."""
        algorithm = options.algorithm()
        return {"algorithm": {"name": algorithm.name, **asdict(algorithm)}}

    def costs(self, options: DirectOptions, workload: Workload) -> Sequence[StageCost]:
        """Return the cost of recording, of the graph policy's schedules, and of every search."""
        budgets = options.usual_budgets(workload.num_inference_steps)
        readings = len(edge_settings(workload.max_look_back))
        trials = options.algorithm().trials
        searches = [
            stage
            for budget in budgets
            for stage in JointSearch().costs(stages.waypoint(budget), budget, trials, workload)
        ]
        return workload.recording, workload.tried(stages.TUNING, readings, budgets), *searches

    def calibrate(self, options: DirectOptions, context: CalibrationContext) -> Calibrated:
        """Search every budget from the graph policy's best schedule on."""
        budgets = options.usual_budgets(context.num_inference_steps)
        edges, algorithm = context.edges(), options.algorithm()
        readings = graph_candidates(edges)
        context.start(stages.TUNING, len(readings) * len(budgets))
        starts = [
            best_of([each.schedule(budget) for each in readings], context.best)
            for budget in budgets
        ]
        found = []
        for start in starts:
            name = stages.waypoint(start.budget)
            panels = JointSearch().panels(name, context.batches)
            (search,) = run_searches(name, start, panels, edges.max_look_back, algorithm, context)
            found.append(search.best(1)[0].schedule)
        settings = {"searched_by": context.metric, "trials": options.trials}
        return calibrated(found, options, settings, context)
