"""Calibrating TeaCache: the polynomial is fitted to full runs, the thresholds to runs with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from otcache_policies import fit_coefficients
from otcache_policies.deciding import MODULATED_INPUT

from otcache_plugin.calibration.thresholds import ThresholdCalibrator
from otcache_plugin.parameters.thresholds import TeaCacheParameters, records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from otcache_plugin.calibration.thresholds import ThresholdOptions
    from otcache_plugin.plugins.calibrating import Calibrated, CalibrationContext


class TeaCacheCalibrator(ThresholdCalibrator):
    """Fits how much the output changes by how much the first block's modulated input does."""

    def calibrate(self, options: ThresholdOptions, context: CalibrationContext) -> Calibrated:
        """Watch the full runs, fit the polynomial, and find the thresholds."""
        changes = context.changes(MODULATED_INPUT)
        coefficients = fit_coefficients(changes.observed, changes.outputs)

        def parameters(thresholds: Sequence[tuple[int, float]]) -> Mapping[str, Any]:
            made = TeaCacheParameters(coefficients=coefficients, thresholds=records(thresholds))
            return made.model_dump()

        rescaled = np.asarray(np.polyval(coefficients, changes.observed), dtype=np.float64)
        return self.found(options, context, rescaled, parameters)
