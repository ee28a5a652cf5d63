"""Calibrating MeanCache: full runs are recorded, and how their edge table is read is tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.evidence.peers import evenly
from otcache_plugin.calibration.searching.graph_and_rho import edge_settings, tune_graph
from otcache_plugin.calibration.settings import MeanCacheOptions
from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.parameters.meancache import MeanCacheParameters
from otcache_plugin.plugins.calibrating import Calibrated, Calibrator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_policies import EdgeTable, MeanCachePolicy, Policy, Schedule

    from otcache_plugin.plugins.calibrating import CalibrationContext
    from otcache_plugin.plugins.costs import StageCost, Workload


class MeanCacheCalibrator(Calibrator):
    """Calibrates the graph policy alone."""

    options = MeanCacheOptions
    peers = ("uniform",)

    def check(self, options: MeanCacheOptions, num_inference_steps: int) -> None:
        """Refuse budgets that are none of so many steps."""
        options.check(num_inference_steps)

    def evidence_budgets(
        self, options: MeanCacheOptions, num_inference_steps: int
    ) -> tuple[int, ...]:
        """Return the budgets at which readings were judged."""
        return options.usual_budgets(num_inference_steps)

    def costs(self, options: MeanCacheOptions, workload: Workload) -> Sequence[StageCost]:
        """Return the cost of recording and tuning."""
        readings = len(edge_settings(workload.max_look_back))
        budgets = options.usual_budgets(workload.num_inference_steps)
        return workload.recording, workload.tried(stages.TUNING, readings, budgets)

    def calibrate(self, options: MeanCacheOptions, context: CalibrationContext) -> Calibrated:
        """Record the full runs, and tune how their edge table is read."""
        budgets = options.usual_budgets(context.num_inference_steps)
        graph = tuned(context.edges(), budgets, context)
        return Calibrated(
            parameters=MeanCacheParameters.of(graph).model_dump(),
            tables=tables_of(graph.edges),
            budgets=(),
            default_budget=options.default_budget or context.usual_budget,
            settings={"budgets": list(budgets)},
        )

    def peer(self, name: str, policy: Policy) -> Callable[[int], Schedule]:
        """Return evenly spaced steps with the policy's own look-back rule."""
        graph = cast("MeanCachePolicy", policy)
        return evenly(graph.edges, graph.settings)


def tuned(edges: EdgeTable, budgets: Sequence[int], context: CalibrationContext) -> MeanCachePolicy:
    """Return the graph policy whose reading of the table has the lowest loss at some budgets."""
    context.start(stages.TUNING, len(edge_settings(edges.max_look_back)) * len(budgets))
    return tune_graph(edges, budgets, context.best)
