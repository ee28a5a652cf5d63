"""The policy document of a calibration: what was found, and what finding it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otcache_registry import (
    POLICY_SCHEMA,
    Calibration,
    ModelReference,
    PolicyDocument,
    PolicyIdentity,
    ServedBudgets,
    tables_digest,
)

if TYPE_CHECKING:
    from otcache_policies import AimingPolicy, Policy
    from otcache_registry import EvidenceRow, Sampling, Tables

    from otcache_plugin.calibration.measuring.facts import ModelFacts
    from otcache_plugin.calibration.measuring.measurements import Measurements
    from otcache_plugin.calibration.task import CalibrationTask
    from otcache_plugin.plugins.calibrating import Calibrated


@dataclass(frozen=True)
class CalibrationResult:
    """What a calibration gives: the document and the tables that it rests on."""

    document: PolicyDocument
    tables: Tables


@dataclass(frozen=True)
class Found:
    """What a calibration found.

    Attributes:
        task: what was calibrated.
        calibrated: what its calibrator found.
        policy: the policy of that; one that decides aims at its budgets.
        sampling: the sampling set-up of the runs.
        evidence: held-out figures.
        created: when the calibration was begun, in ISO 8601.
    """

    task: CalibrationTask
    calibrated: Calibrated
    policy: Policy | AimingPolicy[Any]
    sampling: Sampling
    evidence: tuple[EvidenceRow, ...]
    created: str


def document_of(facts: ModelFacts, measurements: Measurements, found: Found) -> CalibrationResult:
    """Return the document of what was found, with its tables.

    Args:
        facts: of the model.
        measurements: that it was found by, at the end of the calibration.
        found: what was found.
    """
    calibrated, budgets = found.calibrated, found.policy.budgets
    tables = dict(calibrated.tables)
    document = PolicyDocument(
        schema=POLICY_SCHEMA,
        policy=PolicyIdentity(name=found.task.policy, distribution=found.task.installed_by),
        model=ModelReference(id=facts.model, revision=facts.revision),
        sampling=found.sampling,
        default_budget=calibrated.default_budget,
        budgets=ServedBudgets(
            smallest=budgets.smallest, largest=budgets.largest, calibrated=calibrated.budgets
        ),
        parameters=dict(calibrated.parameters),
        calibration=_calibration(facts, measurements, found),
        evidence=found.evidence,
        tables_sha256=tables_digest(tables) if tables else None,
    )
    return CalibrationResult(document, tables)


def _calibration(facts: ModelFacts, measurements: Measurements, found: Found) -> Calibration:
    settings = measurements.settings
    return Calibration(
        pairs=settings.pairs,
        seed=settings.seed,
        prompts_digest=facts.prompts_digest,
        held_out_digest=facts.held_out_digest,
        metric=settings.metric,
        settings=dict(found.calibrated.settings),
        batch_size=settings.batch_size,
        evaluations=measurements.evaluations,
        values=measurements.values,
        values_not_finite=measurements.values_not_finite,
        transformer_calls=measurements.transformer_calls,
        denoising_steps=measurements.denoising_steps,
        evidence_steps=measurements.evidence_steps,
        seconds=round(measurements.seconds, 1),
        libraries=facts.libraries,
        device=facts.device,
        created=found.created,
    )
