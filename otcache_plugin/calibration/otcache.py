"""Calibrating OTCache: record, tune the graph policy, search the anchor and the waypoints, rho.

Everything here follows from measured values alone, in a fixed order and without a clock: a
calibration that was interrupted, or shared out, comes to the same document.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from otcache_policies import MeanCachePolicy, OTCachePolicy, Schedule

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.evidence.peers import peers
from otcache_plugin.calibration.meancache import tuned
from otcache_plugin.calibration.searching.candidates import SearchTask
from otcache_plugin.calibration.searching.default_search import ClimbsAndRounds
from otcache_plugin.calibration.searching.graph_and_rho import (
    best_of,
    edge_settings,
    graph_candidates,
    tune_rho,
)
from otcache_plugin.calibration.searching.scopes import SCOPES, mean_history
from otcache_plugin.calibration.searching.search_algorithm import SearchAlgorithm
from otcache_plugin.calibration.settings import RHOS, OTCacheOptions, SearchSettings
from otcache_plugin.errors import ArgumentError
from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.parameters.otcache import OTCacheParameters
from otcache_plugin.parameters.otcache_details import SearchRecord
from otcache_plugin.plugins.calibrating import Calibrated, Calibrator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otcache_policies import Policy

    from otcache_plugin.calibration.searching.candidates import Panel
    from otcache_plugin.calibration.searching.scopes import SearchScope
    from otcache_plugin.plugins.calibrating import (
        CalibrationContext,
        StageCost,
        Study,
        Workload,
    )


def climbs_and_rounds(options: OTCacheOptions) -> SearchAlgorithm:
    """Return the search algorithm of every calibration that is not given another one."""
    return ClimbsAndRounds(SearchSettings(trials=options.trials, patience=options.patience))


@dataclass(frozen=True)
class OTCacheCalibrator(Calibrator):
    """Calibrates OTCache.

    Attributes:
        algorithm: gives what schedules are searched with, for some options.
    """

    algorithm: Callable[[OTCacheOptions], SearchAlgorithm] = climbs_and_rounds

    options = OTCacheOptions
    peers = ("uniform", "meancache")

    def check(self, options: OTCacheOptions, num_inference_steps: int) -> None:
        """Refuse budgets that make no policy, and searches that cannot be."""
        options.check(num_inference_steps)
        if options.search not in SCOPES:
            problem, remedy = "no such search", f"Use {' or '.join(SCOPES)}"
            raise ArgumentError("search", options.search, problem, remedy)
        self.algorithm(options)

    def determined_by(self, options: OTCacheOptions) -> Mapping[str, Any]:
        """Return the search algorithm, and how it is set."""
        algorithm = self.algorithm(options)
        return {"algorithm": {"name": algorithm.name, **asdict(cast("Any", algorithm))}}

    def evidence_budgets(
        self, options: OTCacheOptions, num_inference_steps: int
    ) -> tuple[int, ...]:
        """Return the calibrated budgets, and one predicted between each two."""
        return tuple(sorted({*options.calibrated_budgets, *options.predicted_budgets}))

    def costs(self, options: OTCacheOptions, workload: Workload) -> Sequence[StageCost]:
        """Return the cost of every stage."""
        smallest, *others = options.searched_budgets
        readings = len(edge_settings(workload.max_look_back))
        trials = self.algorithm(options).trials

        def searched(name: str, budget: int) -> tuple[StageCost, ...]:
            return SCOPES[options.search].costs(name, budget, trials, workload)

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

    def calibrate(self, options: OTCacheOptions, context: CalibrationContext) -> Calibrated:
        """Go through the stages, in their order."""
        graph = tuned(context.edges(), options.searched_budgets, context)
        scope, algorithm = SCOPES[options.search], self.algorithm(options)
        policy, history = _Searches(options, context, graph, scope, algorithm).policy()
        default = options.default_budget or max(context.usual_budget, options.budget_anchor)
        record = SearchRecord.model_validate(
            {
                "reference_budget": options.budget_reference,
                "anchor_budget": options.budget_anchor,
                "search": scope.name,
                "trials": options.trials,
                "history": history,
            }
        )
        return Calibrated(
            parameters=OTCacheParameters.of(policy).model_dump(),
            tables=tables_of(graph.edges),
            budgets=options.calibrated_budgets,
            default_budget=default,
            settings=record.model_dump(),
        )

    def peer(self, name: str, policy: Policy) -> Callable[[int], Schedule]:
        """Return a peer's schedules over the policy's own edge table."""
        otcache = cast("OTCachePolicy", policy)
        assert otcache.edges is not None, "a calibrated one has an edge table"
        return peers(otcache, MeanCachePolicy(otcache.edges, otcache.settings))[name]


@dataclass(frozen=True)
class _Searches:
    """The searches of one calibration, for the anchor and then for each waypoint."""

    options: OTCacheOptions
    context: CalibrationContext
    graph: MeanCachePolicy
    scope: SearchScope
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
        policy = OTCachePolicy(anchor, reference, 1.0, graph.edges, graph.settings)
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

        panels = self.scope.panels(name, self.context.batches)
        self.context.start_search(stages.searching(name), self.algorithm.trials * len(panels))
        searches = {
            search: self.algorithm.search(self._task(search, warm_start, panel))
            for search, panel in panels.items()
        }
        found = list(self.context.drive(searches).values())
        pool = self.scope.pool(found, warm_start, look_backs)
        if len(pool) > 1:
            self.context.start(stages.pooling(name), len(pool))
            pool = [best_of(pool, self.context.best)]
        return pool[0], mean_history(found)

    def _task(self, name: str, warm_start: Schedule, panel: Panel) -> SearchTask:
        def study(part: str) -> Study:
            return self.context.study(f"{name}, {part}")

        return SearchTask(
            warm_start,
            panel,
            self.graph.edges.max_look_back,
            self.context.seed,
            study,
            self.context.advance,
        )
