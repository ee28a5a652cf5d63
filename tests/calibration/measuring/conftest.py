"""A recorder of runs of the small flow."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import Recorded, run

from otcache_plugin.calibration.measuring.trajectories import Trajectory, record
from otcache_plugin.models.exact_flow import ExactFlowPipeline


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """Return a recorder of runs, each in a folder of its own."""
    numbers = count()

    def record_run(pipe: ExactFlowPipeline, *args: Any) -> Trajectory:
        with record(pipe, tmp_path / f"run {next(numbers)}") as trajectory:
            run(pipe, *args)
        return trajectory

    return record_run
