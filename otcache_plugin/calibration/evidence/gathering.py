"""Gathering evidence: a calibrated policy and its peers, run on the held-out pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.evidence.rows import evidence_rows
from otcache_plugin.calibration.measuring.losses import ScheduleLoss, not_finite
from otcache_plugin.calibration.measuring.units import Evaluate, Reference
from otcache_plugin.calibration.settings import evidence_metrics
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from otcache_policies import Schedule
    from otcache_registry import EvidenceRow

    from otcache_plugin.calibration.measuring.measurements import Measurements
    from otcache_plugin.calibration.stages import CalibrationProgress


@dataclass(frozen=True)
class FullRuns:
    """What the full runs of the held-out pairs are.

    Attributes:
        sigmas: noise schedule, T + 1 numbers.
        height: of the pictures, in pixels.
        width: likewise.
    """

    sigmas: tuple[float, ...]
    height: int
    width: int


def begin_evidence(
    schedules: int, measurements: Measurements, progress: CalibrationProgress
) -> FullRuns:
    """Run the held-out pairs in full, for others to be compared with.

    Args:
        schedules: how many there will be at most.
        measurements: where the values are.
        progress: is told how far it is.

    Raises:
        UnfinishedError: other shards have not measured their part.
    """
    batches = measurements.held_out_batches
    progress.start(stages.EVIDENCE, len(batches) * (1 + schedules))
    measurements.prepare([Reference(batch) for batch in batches], progress.advance)
    arrays = measurements.full_run(batches[0])
    height, width = arrays["pictures"].shape[-2:]
    return FullRuns(tuple(arrays["sigmas"].tolist()), height, width)


def gather_evidence(
    schedules: Mapping[tuple[int, str], Schedule],
    measurements: Measurements,
    progress: CalibrationProgress,
) -> tuple[EvidenceRow, ...]:
    """Measure schedules on the held-out pairs, once these were run in full.

    Args:
        schedules: by budget and method, the methods in the order in which they are compared.
        measurements: where the values are.
        progress: is told how far it is.

    Raises:
        NotFiniteError: no method has a finite value at every pair by the calibration's metric.
        UnfinishedError: other shards have not measured their part.
    """
    batches, names = measurements.held_out_batches, evidence_metrics(measurements.settings.metric)
    units = [
        Evaluate(batch, schedule, names) for schedule in schedules.values() for batch in batches
    ]
    measured = iter(measurements.all_of(units, progress.advance))
    values: dict[tuple[int, str], dict[str, NDArray[Any]]] = {}
    for key in schedules:
        parts = [next(measured).arrays for _ in batches]
        values[key] = {name: np.concatenate([part[name] for part in parts]) for name in names}
    rows = evidence_rows(values, [plugin_host().metric(name) for name in names])
    if not any(row.metric == names[0] for row in rows):
        raise not_finite(
            [
                ScheduleLoss(schedule, names[0], values[key][names[0]])
                for key, schedule in schedules.items()
            ]
        )
    return rows
