"""A calibration in the course of another command, with the model that it has loaded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from otcache_plugin.cli.common.metric import prepare_metric
from otcache_plugin.efforts import QUICK_PAIRS

if TYPE_CHECKING:
    from otcache_plugin.calibration.document import CalibrationResult
    from otcache_plugin.calibration.task import CalibrationTask
    from otcache_plugin.cli.common.output import StageProgress
    from otcache_plugin.comparing.settings import SideBySideSettings
    from otcache_plugin.models.setups import ModelSetup

BY_EFFORT = "otcache"
"""The policy that is calibrated by effort; others are calibrated as they are."""

ANCHOR_SHARE, REFERENCE_SHARE = 8 / 50, 20 / 50
"""Of the steps: the smallest and the largest budget that are calibrated."""

HELD_OUT_PAIRS = 2
"""The fewest there may be: evidence enough is gathered by `otcache calibrate`."""


class Effort(StrEnum):
    """How much a calibration on the way may take."""

    QUICK = "quick"
    STANDARD = "standard"


@dataclass(frozen=True)
class Calibration:
    """What is to be made.

    Attributes:
        effort: how much it may take.
        folder: of the document.
        metric: what is minimised; None for what is usual for the model.
    """

    effort: Effort
    folder: Path
    metric: str | None

    @property
    def work(self) -> Path:
        """The folder that keeps what is measured."""
        from otcache_plugin.calibration.shard_folders import work_folder

        return work_folder(self.folder)


def calibrated(
    setup: ModelSetup,
    settings: SideBySideSettings,
    wanted: Calibration,
    progress: StageProgress,
) -> CalibrationResult:
    """Calibrate the policy that is tried, for the steps that it is tried with.

    Args:
        setup: the model, without any cache enabled.
        settings: of what is tried.
        wanted: what is to be made.
        progress: is told how far it is.

    Raises:
        OTCacheError: as `otcache calibrate`.
    """
    from otcache_plugin.calibration.calibrate import calibrate, manifest_of
    from otcache_plugin.calibration.measuring.measurements import Measurements
    from otcache_plugin.calibration.measuring.pools import LocalPool
    from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.plugins.host import plugin_host

    task, usual = _task(settings, wanted.effort), setup.defaults
    measuring = MeasuringSettings(
        num_inference_steps=settings.num_inference_steps,
        metric=wanted.metric or usual.metric,
        pairs=task.calibrator.usual_pairs(task.options) or QUICK_PAIRS,
        held_out_pairs=HELD_OUT_PAIRS,
        batch_size=usual.batch_size,
    )
    plugin_host().require_metric(measuring.metric)
    prepare_metric(measuring.metric, progress)
    with (
        LocalPool(lambda: setup, measuring, wanted.work / SCRATCH_FOLDER, progress) as pool,
        Workspace(wanted.work, manifest_of(pool.facts, measuring)) as workspace,
    ):
        return calibrate(task, pool.facts, Measurements(workspace, pool, measuring), progress)


def _task(settings: SideBySideSettings, effort: Effort) -> CalibrationTask:
    """Return what is calibrated; the budgets keep their share of the steps, down to the tried."""
    from otcache_plugin.calibration.task import calibration_task

    steps, policy = settings.num_inference_steps, settings.policy
    if policy != BY_EFFORT:
        return calibration_task(policy, {}, steps)
    anchor = min(settings.budget, max(2, round(steps * ANCHOR_SHARE)))
    reference = max(anchor + 1, round(steps * REFERENCE_SHARE))
    options = {"effort": effort.value, "budget_anchor": anchor, "budget_reference": reference}
    return calibration_task(policy, options, steps)
