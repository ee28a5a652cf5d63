"""Calibrating DiCache: the thresholds are found on runs with the probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from otcache_policies.deciding import after_blocks
from otcache_policies.dicache import DEEPEST
from pydantic import Field

from otcache_plugin.calibration.thresholds import ThresholdCalibrator, ThresholdOptions
from otcache_plugin.parameters.thresholds import DiCacheParameters, records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from otcache_plugin.plugins.calibrating import Calibrated, CalibrationContext


class DiCacheOptions(ThresholdOptions):
    """How DiCache is calibrated."""

    depth: Annotated[int, Field(description="Blocks of the probe, 1 to 3.", ge=1, le=DEEPEST)] = 1


class DiCacheCalibrator(ThresholdCalibrator):
    """Finds the thresholds of a probe."""

    options = DiCacheOptions

    def variant(self, options: DiCacheOptions) -> str:
        """Return the depth: each goes on beside the others in one folder."""
        return f"{options.depth}"

    def calibrate(self, options: DiCacheOptions, context: CalibrationContext) -> Calibrated:
        """Watch the full runs, and find the thresholds."""
        changes = context.changes(after_blocks(options.depth))

        def parameters(thresholds: Sequence[tuple[int, float]]) -> Mapping[str, Any]:
            made = DiCacheParameters(depth=options.depth, thresholds=records(thresholds))
            return made.model_dump()

        return self.found(options, context, changes.observed, parameters)
