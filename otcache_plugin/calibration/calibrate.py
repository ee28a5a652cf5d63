"""From a model to the document of any policy: its calibrator decides, evidence is gathered.

Everything here follows from measured values alone, in a fixed order and without a clock: a
calibration that was interrupted, or shared out, comes to the same document.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from otcache_plugin.calibration.context import MeasuredContext
from otcache_plugin.calibration.cost import evidence_calls, stage_costs
from otcache_plugin.calibration.document import Found, document_of
from otcache_plugin.calibration.evidence.gathering import (
    begin_evidence,
    counted_calls_per_step,
    gather_evidence,
)
from otcache_plugin.calibration.evidence.rows import evidence_runs, methods_of
from otcache_plugin.calibration.measuring.deciding_runs import deciding_run
from otcache_plugin.calibration.measuring.facts import sampling_of
from otcache_plugin.calibration.searching.journal import TrialJournal
from otcache_plugin.calibration.settings import MAX_LOOK_BACK
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from otcache_plugin.calibration.document import CalibrationResult
    from otcache_plugin.calibration.measuring.facts import ModelFacts
    from otcache_plugin.calibration.measuring.measurements import Measurements
    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.calibration.task import CalibrationTask


def manifest_of(facts: ModelFacts, settings: MeasuringSettings) -> dict[str, Any]:
    """Return all that measured values depend on, as JSON.

    The number of calibration pairs is not among it: with more pairs, those there were stay as they
    are, so a calibration of more effort goes on from what one of less has measured.
    """
    described = asdict(settings)
    del described["pairs"]
    return {"settings": described, "model": asdict(facts)}


def calibrate(
    task: CalibrationTask,
    facts: ModelFacts,
    measurements: Measurements,
    progress: CalibrationProgress,
) -> CalibrationResult:
    """Calibrate a policy.

    Args:
        task: which policy, and how its calibrator is set.
        facts: of the model.
        measurements: kept in a working folder, which policies may share.
        progress: is told how far it is.

    Returns:
        A document with evidence from held-out pairs, and its tables.

    Raises:
        UnfinishedError: other shards have not measured their part.
        WorkspaceError: the working folder cannot be written, or is damaged.
        OtherSettingsError: the policy's calibration in that folder was begun with other options.
        NotFiniteError: there is no finite loss to choose by.
        FieldError: there are too few pairs for what is asked.
    """
    pairs = measurements.settings.pairs
    task.calibrator.check_pairs(task.options, pairs)
    task.calibrator.check_executor(task.options, measurements.settings.mechanism.executor)
    work = measurements.workspace.claim(task.name, {**task.manifest, "pairs": pairs})
    costs = stage_costs(task, measurements.settings, MAX_LOOK_BACK)
    progress.plan(costs, measurements.share.part)
    journal = TrialJournal(work.journal)
    context = MeasuredContext(measurements, journal, progress, task.policy, facts)
    calibrated = task.calibrator.calibrate(task.options, context)
    steps = measurements.settings.num_inference_steps
    budgets = task.calibrator.evidence_budgets(task.options, steps)
    calls = evidence_calls(task, measurements.settings) * len(budgets)
    full_run = begin_evidence(calls, measurements, progress)
    mechanism = None if task.calibrator.decides else measurements.settings.mechanism
    sampling = sampling_of(facts, full_run, mechanism, counted_calls_per_step(measurements))
    policy = plugin_host().policy_found(task.policy, calibrated, sampling)
    decided = partial(deciding_run, task.policy, calibrated.parameters, calibrated.tables, sampling)
    runs = evidence_runs(methods_of(task.policy, policy, task.calibrator, decided), budgets)
    evidence = gather_evidence(runs, measurements, progress)
    found = Found(task, calibrated, policy, sampling, evidence, work.created)
    return document_of(facts, measurements, found)
