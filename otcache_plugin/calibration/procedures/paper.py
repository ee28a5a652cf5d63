"""The paper's own procedure: a searched anchor, the graph policy's reference, and rho between.

With waypoints, schedules that are searched at budgets between the two, the path leads through them
and the warp vanishes at each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otcache_policies import OTCachePolicy
from otcache_policies.prediction import constant_warp, vanishing_warp

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.meancache import tuned
from otcache_plugin.calibration.searching.graph_and_rho import (
    best_of,
    edge_settings,
    graph_candidates,
    tune_rho,
)
from otcache_plugin.calibration.searching.running import run_searches
from otcache_plugin.calibration.searching.scopes import SCOPES, mean_history
from otcache_plugin.calibration.settings import RHOS
from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.parameters.otcache import OTCacheParameters
from otcache_plugin.plugins.calibrating import Calibrated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_policies import MeanCachePolicy, Schedule

    from otcache_plugin.calibration.searching.search_algorithm import SearchAlgorithm
    from otcache_plugin.calibration.settings import OTCacheOptions
    from otcache_plugin.plugins.calibrating import CalibrationContext
    from otcache_plugin.plugins.costs import StageCost, Workload


@dataclass(frozen=True)
class Paper:
    """Endpoints and what lies between."""

    outcome: str = (
        "a schedule searched at the smallest budget, the graph policy's at the largest, and what "
        "is predicted between; for comparison"
    )
    fewest_pairs: int = 1
    usual_pairs: int = 50

    def costs(
        self, options: OTCacheOptions, algorithm: SearchAlgorithm, workload: Workload
    ) -> Sequence[StageCost]:
        """Return the cost of every stage."""
        smallest, *others = options.searched_budgets
        readings = len(edge_settings(workload.max_look_back))
        scope = SCOPES[options.search_scope]

        def searched(name: str, budget: int) -> tuple[StageCost, ...]:
            return scope.costs(name, budget, algorithm.trials, workload)

        def started(name: str, budget: int) -> StageCost:
            # What the graph policy gives was run while it was tuned; what each rho does was not.
            return workload.tried(stages.predicting(name), len(RHOS), [budget])

        names = {budget: stages.waypoint(budget) for budget in others}
        return (
            workload.recording,
            workload.tried(stages.TUNING, readings, options.searched_budgets),
            workload.tried(stages.REFERENCE, readings, [options.budget_reference]),
            *searched(stages.ANCHOR, smallest),
            *(
                stage
                for budget, name in names.items()
                for stage in (started(name, budget), *searched(name, budget))
            ),
            workload.tried(stages.RHO, len(RHOS), options.predicted_budgets),
        )

    def calibrate(
        self, options: OTCacheOptions, algorithm: SearchAlgorithm, context: CalibrationContext
    ) -> Calibrated:
        """Go through the stages, in their order."""
        graph = tuned(context.edges(), options.searched_budgets, context)
        policy, history = _Searches(options, context, graph, algorithm).policy()
        return Calibrated(
            parameters=OTCacheParameters.of(policy).model_dump(),
            tables=tables_of(graph.edges),
            budgets=options.calibrated_budgets,
            default_budget=options.default_budget
            or max(context.usual_budget, options.budget_anchor),
            settings={
                "effort": options.effort,
                "reference_budget": options.budget_reference,
                "anchor_budget": options.budget_anchor,
                "search": options.search_scope,
                "trials": options.trials,
                "history": history,
            },
        )


@dataclass(frozen=True)
class _Searches:
    """The searches of one calibration, for the anchor and then for each waypoint."""

    options: OTCacheOptions
    context: CalibrationContext
    graph: MeanCachePolicy
    algorithm: SearchAlgorithm

    def policy(self) -> tuple[OTCachePolicy, tuple[float, ...]]:
        """Return the policy, and the anchor's best loss so far.

        Each waypoint's search begins at the best prediction for its budget from what is calibrated
        by then, or at the best of the graph policy's schedules where that is better.
        """
        context, graph = self.context, self.graph
        smallest, *others = self.options.searched_budgets
        readings = graph_candidates(graph.edges)
        context.start(stages.REFERENCE, 2 * len(readings))
        largest = self.options.budget_reference
        reference = best_of([each.schedule(largest) for each in readings], context.best)
        warm_start = best_of([each.schedule(smallest) for each in readings], context.best)
        anchor, history = self._search(stages.ANCHOR, warm_start)
        warp = vanishing_warp if others else constant_warp
        policy = OTCachePolicy(anchor, reference, 1.0, graph.edges, graph.settings, warp=warp)
        for budget in others:
            name = stages.waypoint(budget)
            predictions = [replace(policy, rho=rho).schedule(budget) for rho in RHOS]
            starts = [*predictions, *(each.schedule(budget) for each in readings)]
            context.start(stages.predicting(name), len(starts))
            waypoint, _ = self._search(name, best_of(starts, context.best))
            policy = replace(policy, waypoints=(*policy.waypoints, waypoint))
        predicted = self.options.predicted_budgets
        context.start(stages.RHO, len(RHOS) * len(predicted))
        return tune_rho(policy, predicted, context.best), history

    def _search(self, name: str, warm_start: Schedule) -> tuple[Schedule, tuple[float, ...]]:
        """Return the best schedule of the start's budget, and the best loss after every trial."""
        edges, settings = self.graph.edges, self.graph.settings

        def look_backs(steps: tuple[int, ...]) -> tuple[int, ...]:
            return edges.look_backs(steps, settings)

        scope = SCOPES[self.options.search_scope]
        panels = scope.panels(name, self.context.batches)
        found = run_searches(
            name, warm_start, panels, edges.max_look_back, self.algorithm, self.context
        )
        pool = scope.pool(found, warm_start, look_backs)
        if len(pool) > 1:
            self.context.start(stages.pooling(name), len(pool))
            pool = [best_of(pool, self.context.best)]
        return pool[0], mean_history(found)
