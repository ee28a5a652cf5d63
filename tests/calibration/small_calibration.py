"""A whole calibration of the small flow: its stages told, its transformer calls counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from otcache_registry import PolicyDocument

from otcache_plugin.calibration.calibrate import CalibrationResult, calibrate, manifest_of
from otcache_plugin.calibration.measurements import Measurements
from otcache_plugin.calibration.pools import LocalPool
from otcache_plugin.calibration.settings import AnchorSettings, CalibrationSettings
from otcache_plugin.calibration.workspace import SCRATCH_FOLDER, Workspace
from otcache_plugin.models.exact_flow import ExactFlowTransformer
from otcache_plugin.models.setups import ModelSetup

SETTINGS = CalibrationSettings(
    num_inference_steps=12,
    budget_reference=7,
    budget_anchor=4,
    pairs=4,
    held_out_pairs=3,
    batch_size=3,
    seed=1,
    anchor=AnchorSettings(trials=30),
)


class Stages:
    """Progress kept to be looked at."""

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self.done: Counter[str] = Counter()

    def start(self, stage: str, total: int) -> None:
        self.stage = stage
        self.total[stage] = total

    def advance(self) -> None:
        self.done[self.stage] += 1


@dataclass(frozen=True)
class Calibrated:
    """A calibration, what it went through, and the transformer's calls in each stage."""

    setup: ModelSetup
    settings: CalibrationSettings
    result: CalibrationResult
    stages: Stages
    calls: dict[str, int]
    folder: Path

    @property
    def document(self) -> PolicyDocument:
        return self.result.document


def calibrate_flow(
    setup: ModelSetup, folder: Path, settings: CalibrationSettings = SETTINGS
) -> Calibrated:
    """Calibrates in a working folder."""
    stages, calls = Stages(), Counter[str]()
    forward = ExactFlowTransformer.forward

    def counted(self: ExactFlowTransformer, *args: Any, **kwargs: Any) -> Any:
        calls[stages.stage] += 1
        return forward(self, *args, **kwargs)

    with (
        pytest.MonkeyPatch.context() as patch,
        LocalPool(lambda: setup, settings, folder / SCRATCH_FOLDER) as pool,
        Workspace(folder, manifest_of(pool.facts, settings)) as workspace,
    ):
        patch.setattr(ExactFlowTransformer, "forward", counted)
        measurements = Measurements(workspace, pool, settings)
        result = calibrate(pool.facts, settings, workspace, measurements, stages)
    # A copy: hooks leave the counting method on the pipeline, whose later calls are others.
    return Calibrated(setup, settings, result, stages, dict(calls), folder)
