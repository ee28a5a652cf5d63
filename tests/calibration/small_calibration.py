"""A whole calibration of the small flow: its stages told, what its transformer does counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from driven_search import studies_of
from otcache_policies import (
    EdgeSettings,
    EdgeTable,
    MeanCachePolicy,
    OTCachePolicy,
    Policy,
    Schedule,
)
from otcache_registry import PolicyDocument, StoredPolicy, write_policy
from pydantic import BaseModel
from stored_policies import meancache_of, otcache_of

import otcache_plugin
from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.document import CalibrationResult
from otcache_plugin.calibration.evidence.rows import evidence_runs, methods_of
from otcache_plugin.calibration.measuring.losses import pooled
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
from otcache_plugin.calibration.otcache import OTCacheCalibrator
from otcache_plugin.calibration.settings import MeasuringSettings, OTCacheOptions
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.calibration.task import CalibrationTask
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.models.exact_flow import ExactFlowTransformer
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.parameters.otcache_details import CalibrationRecord
from otcache_plugin.plugins import Calibrator
from otcache_plugin.plugins.costs import StageCost
from otcache_plugin.plugins.host import plugin_host

SETTINGS = MeasuringSettings(
    num_inference_steps=12, pairs=4, held_out_pairs=3, batch_size=3, seed=1
)
OPTIONS = OTCacheOptions(
    effort="paper",
    search="joint",
    budget_reference=8,
    budget_anchor=4,
    waypoints=(6,),
    trials=20,
)
"""Searched are 4 and 6 steps, predicted 5 and 7."""


def task_of(
    options: BaseModel = OPTIONS,
    calibrator: Calibrator | None = None,
    policy: str = "otcache",
) -> CalibrationTask:
    """The task of calibrating a built-in policy."""
    return CalibrationTask(policy, "otcache-plugin", calibrator or OTCacheCalibrator(), options)


def evidence_of(policy: OTCachePolicy, budgets: Iterable[int]) -> dict[tuple[int, str], Schedule]:
    """What is measured for the evidence of a policy, by budget and method."""
    return evidence_runs(methods_of("otcache", policy, OTCacheCalibrator()), list(budgets))


class Stages(Unwatched):
    """Progress kept to be looked at."""

    def __init__(self) -> None:
        self.planned: dict[str, int] = {}
        self.total: dict[str, int] = {}
        self.done: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()
        self.steps_before = 0

    def plan(self, stages: Sequence[StageCost], part: float = 1.0) -> None:
        self.planned = {each.stage: each.denoising_steps for each in stages}

    def start(self, stage: str, total: int) -> None:
        self.stage = stage
        self.total[stage] = total

    def advance(self, steps: int = 0, before: bool = False) -> None:
        self.done[self.stage] += 1
        self.ran(steps, before)

    def ran(self, steps: int, before: bool = False) -> None:
        self.steps[self.stage] += steps
        self.steps_before += steps if before else 0


@dataclass(frozen=True)
class Calibrated:
    """A calibration, what it went through, and the transformer's work in each stage.

    Attributes:
        calls: of the transformer, by stage.
        steps: samples that came through it, by stage.
    """

    setup: ModelSetup
    settings: MeasuringSettings
    task: CalibrationTask
    result: CalibrationResult
    stages: Stages
    calls: dict[str, int]
    steps: dict[str, int]
    folder: Path

    @property
    def document(self) -> PolicyDocument:
        return self.result.document

    def require_run_as_planned(self, pipe: Any, folder: Path, budget: int) -> None:
        """Write the document, and run it on a pipeline: it computes its policy's schedule."""
        write_policy(folder, self.document, self.stored.tables, "# A card\n")
        otcache_plugin.enable_cache(pipe, policy=folder, budget=budget)
        try:
            pipe("kind 1", num_inference_steps=self.document.num_inference_steps)
            report = otcache_plugin.summary(pipe)
        finally:
            otcache_plugin.disable_cache(pipe)
        policy = plugin_host().policy_of(self.stored)
        assert isinstance(policy, Policy)
        assert report.as_planned
        assert report.planned_steps == policy.schedule(budget).computed_steps

    @property
    def policy(self) -> OTCachePolicy:
        """The document's."""
        return otcache_of(self.stored)

    @property
    def stored(self) -> StoredPolicy:
        """The document with its tables."""
        return StoredPolicy(self.document, self.result.tables, "")

    @property
    def graph(self) -> MeanCachePolicy:
        """The graph policy that the document rests on."""
        return meancache_of(self.stored)

    @property
    def edges(self) -> EdgeTable:
        """The edge table."""
        return self.graph.edges

    @property
    def search(self) -> CalibrationRecord:
        """How the schedules were searched, as the document has it."""
        assert self.document.calibration is not None
        return CalibrationRecord.read(self.document.calibration)

    @property
    def readings(self) -> list[MeanCachePolicy]:
        """MeanCache by every way to read the edge table."""
        return [
            MeanCachePolicy(self.edges, EdgeSettings(cost, gamma, look_back))
            for cost in ("velocity", "displacement")
            for gamma in (1.0, 2.0, 4.0)
            for look_back in (None, 1, 2, 3)
        ]

    @property
    def studies(self) -> dict[str, optuna.Study]:
        """What the journal holds."""
        return studies_of(self.folder / "policies" / self.task.name / "trials.log")

    def losses(self, *schedules: Schedule) -> list[float]:
        """Of whole runs on the calibration pairs, in the calibration's batches."""
        settings, metric = self.settings, plugin_host().metric(self.settings.metric)
        pairs = self.setup.calibration_pairs(settings.pairs, settings.seed)
        arguments = {"num_inference_steps": settings.num_inference_steps}
        evaluator = Evaluator(self.setup.pipe, pairs, arguments, settings.batch_size)
        sign = -1 if metric.higher_is_better else 1
        found = {
            schedule: sign * pooled(evaluator.values(schedule, metric)[0])
            for schedule in dict.fromkeys(schedules)
        }
        return [found[schedule] for schedule in schedules]


def calibrate_flow(
    setup: ModelSetup,
    folder: Path,
    settings: MeasuringSettings = SETTINGS,
    options: OTCacheOptions = OPTIONS,
    calibrator: OTCacheCalibrator | None = None,
) -> Calibrated:
    """Calibrate OTCache in a working folder."""
    return calibrate_policy(setup, folder, task_of(options, calibrator), settings)


def calibrate_policy(
    setup: ModelSetup,
    folder: Path,
    task: CalibrationTask,
    settings: MeasuringSettings = SETTINGS,
) -> Calibrated:
    """Calibrate any policy in a working folder."""
    stages, calls, steps = Stages(), Counter[str](), Counter[str]()
    forward = ExactFlowTransformer.forward

    def counted(self: ExactFlowTransformer, latents: torch.Tensor, *args: Any) -> Any:
        calls[stages.stage] += 1
        steps[stages.stage] += len(latents)
        return forward(self, latents, *args)

    with (
        pytest.MonkeyPatch.context() as patch,
        LocalPool(lambda: setup, settings, folder / SCRATCH_FOLDER) as pool,
        Workspace(folder, manifest_of(pool.facts, settings)) as workspace,
    ):
        patch.setattr(ExactFlowTransformer, "forward", counted)
        measurements = Measurements(workspace, pool, settings)
        result = calibrate(task, pool.facts, measurements, stages)
    # A copy: hooks leave the counting method on the pipeline, whose later calls are others.
    return Calibrated(setup, settings, task, result, stages, dict(calls), dict(steps), folder)
