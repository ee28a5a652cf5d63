"""The policy document of a calibration: what was found, and what finding it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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

from otcache_plugin.runs.plan import DEFAULT_RATIO, Request

if TYPE_CHECKING:
    from otcache_policies import EdgeTable, MeanCachePolicy, OTCachePolicy
    from otcache_registry import EvidenceRow

    from otcache_plugin.calibration.measuring.facts import ModelFacts
    from otcache_plugin.calibration.measuring.measurements import Measurements
    from otcache_plugin.calibration.settings import CalibrationSettings


@dataclass(frozen=True)
class CalibrationResult:
    """What a calibration gives: the document and the edge table it rests on."""

    document: PolicyDocument
    edges: EdgeTable


@dataclass(frozen=True)
class Found:
    """What a calibration found.

    Attributes:
        policy: the calibrated policy.
        graph: the graph policy over its edge table, as it was tuned.
        history: best loss of the anchor's search so far, after each trial.
        evidence: held-out figures.
        size: height and width of the pictures.
    """

    policy: OTCachePolicy
    graph: MeanCachePolicy
    history: tuple[float, ...]
    evidence: tuple[EvidenceRow, ...]
    size: tuple[int, int]


def document_of(facts: ModelFacts, measurements: Measurements, found: Found) -> CalibrationResult:
    """Return the document of what was found, with its edge table.

    Args:
        facts: of the model.
        measurements: that it was found by, at the end of the calibration.
        found: what was found.
    """
    settings, policy, edges = measurements.settings, found.policy, found.graph.edges
    height, width = found.size
    document = PolicyDocument(
        schema=POLICY_SCHEMA,
        name=policy.name,
        model=ModelReference(id=facts.model, revision=facts.revision),
        sampling=Sampling(
            pipeline=facts.pipeline,
            scheduler=facts.scheduler,
            num_inference_steps=settings.num_inference_steps,
            sigmas=tuple(edges.sigmas.tolist()),
            height=height,
            width=width,
            guidance=facts.guidance,
        ),
        default_budget=_default_budget(settings),
        anchor=ScheduleRecord.of(policy.anchor),
        waypoints=tuple(map(ScheduleRecord.of, policy.waypoints)),
        reference=ScheduleRecord.of(policy.reference),
        rho=policy.rho,
        graph=GraphSettings.of(found.graph.settings),
        calibration=_calibration(facts, measurements, found.history),
        evidence=found.evidence,
        edges_sha256=edges_digest(edges),
    )
    return CalibrationResult(document, edges)


def _calibration(
    facts: ModelFacts, measurements: Measurements, history: tuple[float, ...]
) -> Calibration:
    settings = measurements.settings
    return Calibration(
        pairs=settings.pairs,
        seed=settings.seed,
        prompts_digest=facts.prompts_digest,
        held_out_digest=facts.held_out_digest,
        metric=settings.metric,
        reference_budget=settings.budget_reference,
        anchor_budget=settings.budget_anchor,
        search=settings.search.kind,
        trials=settings.search.trials,
        batch_size=settings.batch_size,
        history=history,
        evaluations=measurements.evaluations,
        transformer_calls=measurements.transformer_calls,
        seconds=round(measurements.seconds, 1),
        libraries=facts.libraries,
        device=facts.device,
        created=measurements.workspace.created,
    )


def _default_budget(settings: CalibrationSettings) -> int:
    if settings.default_budget is not None:
        return settings.default_budget
    scaled = Request().budget_for(settings.num_inference_steps, DEFAULT_RATIO)
    return max(scaled, settings.budget_anchor)
