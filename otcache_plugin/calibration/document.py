"""The policy document of a calibration: what was found, and what finding it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otcache_registry import (
    POLICY_SCHEMA,
    Calibration,
    ModelReference,
    PolicyDocument,
    PolicyIdentity,
    Sampling,
    ServedBudgets,
    tables_digest,
)

from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.parameters.otcache import OTCacheParameters
from otcache_plugin.parameters.otcache_details import SearchRecord
from otcache_plugin.plugins.host import OWN_DISTRIBUTION
from otcache_plugin.runs.plan import DEFAULT_RATIO, Request

if TYPE_CHECKING:
    from otcache_policies import MeanCachePolicy, OTCachePolicy
    from otcache_registry import EvidenceRow, Tables

    from otcache_plugin.calibration.measuring.facts import ModelFacts
    from otcache_plugin.calibration.measuring.measurements import Measurements
    from otcache_plugin.calibration.settings import CalibrationSettings


@dataclass(frozen=True)
class CalibrationResult:
    """What a calibration gives: the document and the tables that it rests on."""

    document: PolicyDocument
    tables: Tables


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
    """Return the document of what was found, with its tables.

    Args:
        facts: of the model.
        measurements: that it was found by, at the end of the calibration.
        found: what was found.
    """
    settings, policy, edges = measurements.settings, found.policy, found.graph.edges
    parameters, tables = OTCacheParameters.of(policy), tables_of(edges)
    height, width = found.size
    document = PolicyDocument(
        schema=POLICY_SCHEMA,
        policy=PolicyIdentity(name=policy.name, distribution=OWN_DISTRIBUTION),
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
        budgets=ServedBudgets(
            smallest=policy.budgets.smallest,
            largest=policy.budgets.largest,
            calibrated=parameters.budgets,
        ),
        parameters=parameters.model_dump(),
        calibration=_calibration(facts, measurements, found.history),
        evidence=found.evidence,
        tables_sha256=tables_digest(tables),
    )
    return CalibrationResult(document, tables)


def _calibration(
    facts: ModelFacts, measurements: Measurements, history: tuple[float, ...]
) -> Calibration:
    settings = measurements.settings
    record = SearchRecord(
        reference_budget=settings.budget_reference,
        anchor_budget=settings.budget_anchor,
        search=settings.search.kind,
        trials=settings.search.trials,
        history=history,
    )
    return Calibration(
        pairs=settings.pairs,
        seed=settings.seed,
        prompts_digest=facts.prompts_digest,
        held_out_digest=facts.held_out_digest,
        metric=settings.metric,
        settings=record.model_dump(),
        batch_size=settings.batch_size,
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
