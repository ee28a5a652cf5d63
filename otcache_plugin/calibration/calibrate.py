"""From measurements to a policy document: record, tune, search, choose, gather evidence.

Everything here follows from measured values alone, in a fixed order and without a clock: a
calibration that was interrupted, or shared out, comes to the same document.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from otcache_policies import OTCachePolicy, Schedule
from otcache_registry import (
    POLICY_SCHEMA,
    Calibration,
    GraphSettings,
    ModelReference,
    PolicyDocument,
    Sampling,
    ScheduleRecord,
    edges_digest,
)

from otcache_plugin.calibration.evidence import EVIDENCE_OF, evidence_rows, evidence_schedules
from otcache_plugin.calibration.journal import TrialJournal
from otcache_plugin.calibration.predicting import (
    Predicting,
    predicting_coordinates,
)
from otcache_plugin.calibration.recording import EdgeAccumulator
from otcache_plugin.calibration.search import (
    Panel,
    State,
    descend,
    look_back_coordinates,
    search_anchor,
)
from otcache_plugin.calibration.tuning import (
    POOL_SIZE,
    RHOS,
    best_of_pool,
    choose_endpoints,
    edge_settings,
    graph_candidates,
    pool_of_pairs,
    tune_graph,
    tuning_budgets,
)
from otcache_plugin.calibration.units import Batch, Evaluate, Record, Reference
from otcache_plugin.calibration.worker import evidence_metrics
from otcache_plugin.enabling import DEFAULT_RATIO
from otcache_plugin.evaluation.metrics import metric_named
from otcache_plugin.plan import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_policies import EdgeTable, MeanCachePolicy
    from otcache_registry import EvidenceRow

    from otcache_plugin.calibration.measurements import Measurements
    from otcache_plugin.calibration.settings import CalibrationSettings
    from otcache_plugin.calibration.worker import ModelFacts
    from otcache_plugin.calibration.workspace import Workspace
    from otcache_plugin.evaluation.metrics import Metric

FIRST_SHARE = 4
"""Hopeless candidates are found out on one pair in so many."""


class CalibrationProgress(Protocol):
    """Is told how far a calibration is."""

    def start(self, stage: str, total: int) -> None:
        """A stage of at most ``total`` units of work begins."""
        ...

    def advance(self) -> None:
        """One unit is done."""
        ...


@dataclass(frozen=True)
class CalibrationResult:
    """What a calibration gives: the document and the edge table it rests on."""

    document: PolicyDocument
    edges: EdgeTable


def manifest_of(facts: ModelFacts, settings: CalibrationSettings) -> dict[str, Any]:
    """All that a calibration's results depend on, as JSON."""
    return {"settings": asdict(settings), "model": asdict(facts)}


def calibrate(
    facts: ModelFacts,
    settings: CalibrationSettings,
    workspace: Workspace,
    measurements: Measurements,
    progress: CalibrationProgress,
) -> CalibrationResult:
    """Calibrates an OTCache policy.

    Args:
        facts: of the model.
        settings: budgets, metric, pairs, search.
        workspace: where everything measured is kept.
        measurements: who measures it.
        progress: is told how far it is.

    Returns:
        A document with evidence from held-out pairs, and its edge table.

    Raises:
        UnfinishedError: other shards have not measured their part.
        WorkspaceError: the working folder cannot be written, or is damaged.
    """
    calibration = _Calibration(settings, measurements, TrialJournal(workspace.journal), progress)
    edges = calibration.record()
    graph = calibration.tune(edges)
    policy, history = calibration.search(graph)
    policy = calibration.improve(policy, graph)
    evidence, size = calibration.gather_evidence(policy, graph)
    document = PolicyDocument(
        schema=POLICY_SCHEMA,
        name=policy.name,
        model=ModelReference(id=facts.model, revision=facts.revision),
        sampling=Sampling(
            pipeline=facts.pipeline,
            scheduler=facts.scheduler,
            num_inference_steps=settings.num_inference_steps,
            sigmas=tuple(edges.sigmas.tolist()),
            height=size[0],
            width=size[1],
            guidance=facts.guidance,
        ),
        default_budget=_default_budget(settings),
        anchor=ScheduleRecord.of(policy.anchor),
        reference=ScheduleRecord.of(policy.reference),
        rho=policy.rho,
        look_backs=policy.look_backs,
        graph=GraphSettings.of(graph.settings),
        calibration=Calibration(
            pairs=settings.pairs,
            seed=settings.seed,
            prompts_digest=facts.prompts_digest,
            held_out_digest=facts.held_out_digest,
            metric=settings.metric,
            reference_budget=settings.budget_reference,
            anchor_budget=settings.budget_anchor,
            search=settings.anchor.kind,
            trials=settings.anchor.trials,
            batch_size=settings.batch_size,
            history=history,
            evaluations=measurements.evaluations,
            transformer_calls=measurements.transformer_calls,
            seconds=round(measurements.seconds, 1),
            libraries=facts.libraries,
            device=facts.device,
            created=workspace.created,
        ),
        evidence=evidence,
        edges_sha256=edges_digest(edges),
    )
    return CalibrationResult(document, edges)


def _default_budget(settings: CalibrationSettings) -> int:
    if settings.default_budget is not None:
        return settings.default_budget
    scaled = Request().budget_for(settings.num_inference_steps, DEFAULT_RATIO)
    return max(scaled, settings.budget_anchor)


@dataclass(frozen=True)
class _Calibration:
    """The stages, in their order."""

    settings: CalibrationSettings
    measurements: Measurements
    journal: TrialJournal
    progress: CalibrationProgress

    @property
    def metric(self) -> Metric:
        return metric_named(self.settings.metric)

    @property
    def budgets(self) -> tuple[int, ...]:
        return tuning_budgets(self.settings.budget_anchor, self.settings.budget_reference)

    @property
    def panel(self) -> Panel:
        """All calibration pairs."""
        batches = self.measurements.calibration_batches
        return Panel(batches, ceil(len(batches) / FIRST_SHARE))

    def losses(self, schedules: Sequence[Schedule]) -> list[float]:
        return self.measurements.losses(schedules, self.metric, self.progress.advance)

    def record(self) -> EdgeTable:
        """Stage 1: the edge table, of the mean and spread over the pairs."""
        units = [Record(batch) for batch in self.measurements.calibration_batches]
        self.progress.start("recording full runs", len(units))
        accumulator = EdgeAccumulator()
        for measured in self.measurements.all_of(units, self.progress.advance):
            accumulator.add(measured.arrays["errors"], measured.arrays["sigmas"])
        return accumulator.table()

    def tune(self, edges: EdgeTable) -> MeanCachePolicy:
        candidates = len(edge_settings(edges.max_look_back)) * len(self.budgets)
        batches = len(self.measurements.calibration_batches)
        self.progress.start("tuning the graph policy", candidates * batches)
        return tune_graph(edges, self.budgets, self.losses)

    def search(self, graph: MeanCachePolicy) -> tuple[OTCachePolicy, tuple[float, ...]]:
        """Stage 2: the anchor and rho, and the best loss after each trial."""
        pool, history = self._pool(graph)
        budget = self.settings.budget_reference
        references = [each.schedule(budget) for each in (graph, *graph_candidates(graph.edges))]
        references = list(dict.fromkeys(references))
        tried = (2 * len(RHOS) + POOL_SIZE + len(references)) * (len(self.budgets) + 1)
        batches = len(self.measurements.calibration_batches)
        self.progress.start("choosing anchor, reference, rho", tried * batches)
        return choose_endpoints(pool, graph, references, self.budgets, self.losses), history

    def _pool(self, graph: MeanCachePolicy) -> tuple[list[Schedule], tuple[float, ...]]:
        warm_start = graph.schedule(self.settings.budget_anchor)

        def look_backs(steps: tuple[int, ...]) -> tuple[int, ...]:
            return graph.edges.look_backs(steps, graph.settings)

        panels = {"joint": self.panel}
        if self.settings.anchor.kind == "per-pair":
            panels = {
                f"pair {pair}": Panel((Batch("calibration", pair, pair + 1),), 1)
                for pair in range(self.settings.pairs)
            }
        trials = self.settings.anchor.search_trials * len(panels)
        self.progress.start("searching the anchor", trials)
        searches = {
            name: search_anchor(
                warm_start,
                panel,
                graph.edges.max_look_back,
                self.settings.anchor,
                self.settings.seed,
                self.journal,
                name,
                self.progress.advance,
            )
            for name, panel in panels.items()
        }
        found = list(self.measurements.drive(searches, self.metric).values())
        history = _mean_history([search.best_losses for search in found])
        if self.settings.anchor.kind == "joint":
            return [trial.schedule for trial in found[0].best(POOL_SIZE)], history
        pool = pool_of_pairs(found, warm_start, look_backs)
        batches = len(self.measurements.calibration_batches)
        self.progress.start("pooling what the pairs found", len(pool) * batches)
        return best_of_pool(pool, self.losses), history

    def improve(self, policy: OTCachePolicy, graph: MeanCachePolicy) -> OTCachePolicy:
        """The anchor, rho and look-backs for all that they predict, then the anchor's look-backs.

        Raises the anchor's loss at no point above that of its warm start.
        """
        warm_start = graph.schedule(self.settings.budget_anchor)
        (limit,) = self.measurements.losses([warm_start], self.metric)
        largest = graph.edges.max_look_back

        def predictions(state: Predicting) -> list[Schedule]:
            family = state.policy(policy)
            return [family.schedule(budget) for budget in self.budgets]

        start = Predicting(policy.anchor.computed_steps, policy.anchor.look_backs, policy.rho)
        improved = self._descend(
            "improving what is predicted",
            start,
            predicting_coordinates(len(start.look_backs), largest),
            predictions,
            limit,
            self.settings.anchor.family_trials,
        ).policy(policy)

        def anchor(look_backs: tuple[int, ...]) -> list[Schedule]:
            return [improved.anchor.with_look_backs(look_backs)]

        own = self._descend(
            "the anchor's look-backs",
            improved.anchor.look_backs,
            look_back_coordinates(len(improved.anchor.look_backs), largest),
            anchor,
            limit,
            self.settings.anchor.look_back_trials,
        )
        return replace(improved, anchor=improved.anchor.with_look_backs(own))

    def _descend(
        self,
        name: str,
        start: State,
        coordinates: Sequence[Callable[[State], list[State]]],
        family: Callable[[State], list[Schedule]],
        limit: float,
        trials: int,
    ) -> State:
        self.progress.start(name, trials)
        descent = descend(
            start,
            coordinates,
            family,
            self.panel,
            limit,
            trials,
            self.journal.study(name),
            self.progress.advance,
        )
        return self.measurements.drive({name: descent}, self.metric)[name]

    def gather_evidence(
        self, policy: OTCachePolicy, graph: MeanCachePolicy
    ) -> tuple[tuple[EvidenceRow, ...], tuple[int, int]]:
        """Figures on held-out pairs, and the height and width of their pictures."""
        batches = self.measurements.held_out_batches
        budgets = sorted({*self.budgets, self.settings.budget_reference})
        self.progress.start(
            "evidence on held-out pairs", len(batches) * (1 + len(budgets) * len(EVIDENCE_OF))
        )
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
        rows = evidence_rows(values, [metric_named(name) for name in names])
        return rows, (height, width)


def _mean_history(searches: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The mean best loss after each trial; a search that ended early stays where it was."""
    longest = max(len(losses) for losses in searches)
    padded = [[*losses, *[losses[-1]] * (longest - len(losses))] for losses in searches]
    return tuple(np.mean(padded, axis=0).tolist())
