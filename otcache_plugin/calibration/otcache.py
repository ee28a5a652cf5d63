"""From measurements to a policy document: record, tune, search, gather evidence.

Everything here follows from measured values alone, in a fixed order and without a clock: a
calibration that was interrupted, or shared out, comes to the same document.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from otcache_policies import OTCachePolicy, Schedule

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.document import Found, document_of
from otcache_plugin.calibration.evidence.rows import EVIDENCE_OF, evidence_rows, evidence_schedules
from otcache_plugin.calibration.measuring.edges import EdgeAccumulator
from otcache_plugin.calibration.measuring.losses import ScheduleLoss, not_finite
from otcache_plugin.calibration.measuring.units import Evaluate, Record, Reference
from otcache_plugin.calibration.searching.candidates import SearchTask
from otcache_plugin.calibration.searching.journal import TrialJournal
from otcache_plugin.calibration.searching.scopes import SCOPES, SearchScope, mean_history
from otcache_plugin.calibration.searching.search import ClimbsAndRounds
from otcache_plugin.calibration.searching.tuning import (
    best_of,
    edge_settings,
    graph_candidates,
    tune_graph,
    tune_rho,
)
from otcache_plugin.calibration.settings import RHOS, evidence_metrics
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_policies import EdgeTable, MeanCachePolicy
    from otcache_registry import EvidenceRow

    from otcache_plugin.calibration.document import CalibrationResult
    from otcache_plugin.calibration.measuring.facts import ModelFacts
    from otcache_plugin.calibration.measuring.measurements import Measurements
    from otcache_plugin.calibration.searching.algorithm import SearchAlgorithm
    from otcache_plugin.calibration.searching.candidates import Panel
    from otcache_plugin.calibration.searching.journal import JournalStudy
    from otcache_plugin.calibration.settings import CalibrationSettings
    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.evaluation.metrics import Metric


def manifest_of(facts: ModelFacts, settings: CalibrationSettings) -> dict[str, Any]:
    """Return all that a calibration's results depend on, as JSON."""
    return {"settings": asdict(settings), "model": asdict(facts)}


def calibrate(
    facts: ModelFacts, measurements: Measurements, progress: CalibrationProgress
) -> CalibrationResult:
    """Calibrate an OTCache policy.

    Args:
        facts: of the model.
        measurements: by the calibration's settings, kept in its working folder.
        progress: is told how far it is.

    Returns:
        A document with evidence from held-out pairs, and its edge table.

    Raises:
        UnfinishedError: other shards have not measured their part.
        WorkspaceError: the working folder cannot be written, or is damaged.
    """
    settings, journal = measurements.settings, TrialJournal(measurements.workspace.journal)
    algorithm = ClimbsAndRounds(settings.search)
    calibration = _Calibration(settings, measurements, journal, progress, algorithm)
    edges = calibration.record()
    graph = calibration.tune(edges)
    policy, history = calibration.search(graph)
    evidence, size = calibration.gather_evidence(policy, graph)
    found = Found(policy, graph, history, evidence, size)
    return document_of(facts, measurements, found)


@dataclass(frozen=True)
class _Calibration:
    """The stages, in their order."""

    settings: CalibrationSettings
    measurements: Measurements
    journal: TrialJournal
    progress: CalibrationProgress
    algorithm: SearchAlgorithm

    @property
    def metric(self) -> Metric:
        return plugin_host().metric(self.settings.metric)

    @property
    def scope(self) -> SearchScope:
        return SCOPES[self.settings.search.kind]

    def losses(self, schedules: Sequence[Schedule]) -> list[ScheduleLoss]:
        return self.measurements.losses(schedules, self.metric, self.progress.advance)

    def record(self) -> EdgeTable:
        """Stage 1: the edge table, of the mean and spread over the pairs."""
        units = [Record(batch) for batch in self.measurements.calibration_batches]
        self.progress.start(stages.RECORDING, len(units))
        accumulator = EdgeAccumulator()
        for measured in self.measurements.all_of(units, self.progress.advance):
            accumulator.add(measured.arrays["errors"], measured.arrays["sigmas"])
        return accumulator.table()

    def tune(self, edges: EdgeTable) -> MeanCachePolicy:
        budgets = self.settings.searched_budgets
        candidates = len(edge_settings(edges.max_look_back)) * len(budgets)
        batches = len(self.measurements.calibration_batches)
        self.progress.start(stages.TUNING, candidates * batches)
        return tune_graph(edges, budgets, self.losses)

    def search(self, graph: MeanCachePolicy) -> tuple[OTCachePolicy, tuple[float, ...]]:
        """Stage 2: the anchor, the waypoints and rho, and the anchor's best loss so far.

        Each waypoint's search begins at the best prediction for its budget from what is calibrated
        by then, or at the best of the graph policy's schedules where that is better.
        """
        batches = len(self.measurements.calibration_batches)
        smallest, *others = self.settings.searched_budgets
        readings = graph_candidates(graph.edges)
        self.progress.start(stages.REFERENCE, 2 * len(readings) * batches)
        largest = self.settings.budget_reference
        reference = best_of([each.schedule(largest) for each in readings], self.losses)
        warm_start = best_of([each.schedule(smallest) for each in readings], self.losses)
        anchor, history = self._search_budget(stages.ANCHOR, warm_start, graph)
        policy = OTCachePolicy(anchor, reference, 1.0, graph.edges, graph.settings)
        for budget in others:
            name = stages.waypoint(budget)
            predictions = [replace(policy, rho=rho).schedule(budget) for rho in RHOS]
            starts = [*predictions, *(each.schedule(budget) for each in readings)]
            self.progress.start(stages.predicting(name), len(starts) * batches)
            start = best_of(starts, self.losses)
            waypoint, _ = self._search_budget(name, start, graph)
            policy = replace(policy, waypoints=(*policy.waypoints, waypoint))
        predicted = self.settings.predicted_budgets
        self.progress.start(stages.RHO, len(RHOS) * len(predicted) * batches)
        return tune_rho(policy, predicted, self.losses), history

    def _search_budget(
        self, name: str, warm_start: Schedule, graph: MeanCachePolicy
    ) -> tuple[Schedule, tuple[float, ...]]:
        """Return the best schedule of the start's budget, and the best loss after every trial."""

        def look_backs(steps: tuple[int, ...]) -> tuple[int, ...]:
            return graph.edges.look_backs(steps, graph.settings)

        batches = self.measurements.calibration_batches
        panels = self.scope.panels(name, batches)
        self.progress.start(stages.searching(name), self.algorithm.trials * len(panels))
        searches = {
            search: self.algorithm.search(self._task(search, warm_start, panel, graph.edges))
            for search, panel in panels.items()
        }
        found = list(self.measurements.drive(searches, self.metric).values())
        pool = self.scope.pool(found, warm_start, look_backs)
        if len(pool) > 1:
            self.progress.start(stages.pooling(name), len(pool) * len(batches))
            pool = [best_of(pool, self.losses)]
        return pool[0], mean_history(found)

    def _task(self, name: str, warm_start: Schedule, panel: Panel, edges: EdgeTable) -> SearchTask:
        def study(part: str) -> JournalStudy:
            return self.journal.study(f"{name}, {part}")

        return SearchTask(
            warm_start,
            panel,
            edges.max_look_back,
            self.settings.seed,
            study,
            self.progress.advance,
        )

    def gather_evidence(
        self, policy: OTCachePolicy, graph: MeanCachePolicy
    ) -> tuple[tuple[EvidenceRow, ...], tuple[int, int]]:
        """Return figures on held-out pairs, and the height and width of their pictures."""
        batches = self.measurements.held_out_batches
        calibrated = (*self.settings.searched_budgets, self.settings.budget_reference)
        budgets = sorted({*calibrated, *self.settings.predicted_budgets})
        units_at_most = len(batches) * (1 + len(budgets) * len(EVIDENCE_OF))
        self.progress.start(stages.EVIDENCE, units_at_most)
        self.measurements.prepare([Reference(batch) for batch in batches], self.progress.advance)
        names = evidence_metrics(self.settings.metric)
        schedules = evidence_schedules(policy, graph, budgets)
        units = [
            Evaluate(batch, schedule, names) for schedule in schedules.values() for batch in batches
        ]
        measured = iter(self.measurements.all_of(units, self.progress.advance))
        values = {}
        for key in schedules:
            parts = [next(measured).arrays for _ in batches]
            values[key] = {name: np.concatenate([part[name] for part in parts]) for name in names}
        height, width = self.measurements.reference(batches[0])["pictures"].shape[-2:]
        rows = evidence_rows(values, [plugin_host().metric(name) for name in names])
        if not any(row.metric == self.settings.metric for row in rows):
            raise not_finite(
                [
                    ScheduleLoss(schedule, names[0], values[key][names[0]])
                    for key, schedule in schedules.items()
                ]
            )
        return rows, (height, width)
