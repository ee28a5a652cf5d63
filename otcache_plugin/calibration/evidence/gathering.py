"""Gathering evidence: a calibrated policy and its peers, run on the held-out pairs."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from otcache_policies import Schedule

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.evidence.rows import evidence_rows
from otcache_plugin.calibration.measuring.losses import ScheduleLoss, not_finite
from otcache_plugin.calibration.measuring.units import Reference, comparisons
from otcache_plugin.calibration.settings import evidence_metrics
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from otcache_registry import EvidenceRow

    from otcache_plugin.calibration.measuring.measurements import Measurements
    from otcache_plugin.calibration.measuring.units import Measured, Run
    from otcache_plugin.calibration.stages import CalibrationProgress


def begin_evidence(
    calls: int, measurements: Measurements, progress: CalibrationProgress
) -> Mapping[str, NDArray[Any]]:
    """Run the held-out pairs in full, for others to be compared with; return what the first gave.

    Args:
        calls: that will be compared with them, at most.
        measurements: where the values are.
        progress: is told how far it is.

    Raises:
        UnfinishedError: other shards have not measured their part.
    """
    batches = measurements.held_out_batches
    progress.start(stages.EVIDENCE, len(batches) + calls)
    measurements.prepare([Reference(batch) for batch in batches], progress.advance)
    return measurements.full_run(batches[0])


def counted_calls_per_step(measurements: Measurements) -> int:
    """Return the transformer's calls in a step of the held-out runs, once these are made."""
    measured = measurements.workspace.get(Reference(measurements.held_out_batches[0]))
    assert measured is not None, "the evidence was begun"
    return measured.calls[0]


def gather_evidence(
    runs: Mapping[tuple[int, str], Run],
    measurements: Measurements,
    progress: CalibrationProgress,
) -> tuple[EvidenceRow, ...]:
    """Measure what runs give on the held-out pairs, once these were run in full.

    Args:
        runs: by budget and method, the methods in the order in which they are compared.
        measurements: where the values are.
        progress: is told how far it is.

    Raises:
        NotFiniteError: no method has a finite value at every pair by the calibration's metric.
        UnfinishedError: other shards have not measured their part.
    """
    batches, names = measurements.held_out_batches, evidence_metrics(measurements.settings.metric)
    units = {key: comparisons(run, batches, names) for key, run in runs.items()}
    measured = iter(measurements.all_of(list(chain(*units.values())), progress.advance))
    values = {key: _together([next(measured) for _ in units[key]]) for key in runs}
    rows = evidence_rows(values, [plugin_host().metric(name) for name in names])
    if not any(row.metric == names[0] for row in rows):
        raise not_finite(
            [
                ScheduleLoss(run, names[0], values[key][names[0]])
                for key, run in runs.items()
                if isinstance(run, Schedule)
            ]
        )
    return rows


def _together(parts: Sequence[Measured]) -> dict[str, NDArray[Any]]:
    """Return what units gave, the pairs of one after those of the other."""
    return {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
