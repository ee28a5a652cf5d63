"""Whether schedules fit the executor they were calibrated on: searched on blocks, and on velocity.

    nice python -m benchmarks.on_blocks --work DIR --output FILE

The same search, on the same pairs of the embedded model and with as many trials, goes by the losses
of runs on the executor velocity, and by those of runs on blocks with TaylorSeer. What either
finds then runs on blocks with TaylorSeer, on the same held-out pairs, beside even spacing;
differences are paired, with 95 % intervals. It goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from otcache_policies import Schedule, SearchedPolicy, UniformPolicy
from otcache_registry import StoredPolicy

from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.units import Evaluate, Reference
from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.evaluation.statistics import paired_difference
from otcache_plugin.models.setups import ModelSetup, load_setup
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.runs.mechanism import USUAL, CacheDitCalibrator, Mechanism

STEPS, BUDGET, BATCH = 50, 10, 16
PAIRS, HELD_OUT, TRIALS = 16, 256, 40
METRIC = "psnr"
BLOCKS = Mechanism("blocks", CacheDitCalibrator.TAYLORSEER.value)
EVEN = "uniform"


def settings_of(mechanism: Mechanism, held_out: int) -> MeasuringSettings:
    """Return the settings of measuring on an executor."""
    return MeasuringSettings(STEPS, METRIC, PAIRS, held_out, batch_size=BATCH, mechanism=mechanism)


def searched(setup: ModelSetup, mechanism: Mechanism, folder: Path) -> tuple[Schedule, int]:
    """Return what a direct search on an executor finds, and the denoising steps it took."""
    settings = settings_of(mechanism, 2)
    task = calibration_task("direct", {"budgets": (BUDGET,), "trials": TRIALS}, STEPS)
    with (
        LocalPool(lambda: setup, settings, folder / SCRATCH_FOLDER) as pool,
        Workspace(folder, manifest_of(pool.facts, settings)) as workspace,
    ):
        measurements = Measurements(workspace, pool, settings)
        result = calibrate(task, pool.facts, measurements, Unwatched())
    policy = plugin_host().policy_of(StoredPolicy(result.document, result.tables, ""))
    assert isinstance(policy, SearchedPolicy)
    return policy.schedule(BUDGET), measurements.denoising_steps


def held_out_values(
    setup: ModelSetup, schedules: dict[str, Schedule], folder: Path
) -> dict[str, NDArray[np.float64]]:
    """Return what the metric says of each schedule on blocks, of every held-out pair."""
    settings = settings_of(BLOCKS, HELD_OUT)
    with (
        LocalPool(lambda: setup, settings, folder / SCRATCH_FOLDER) as pool,
        Workspace(folder, manifest_of(pool.facts, settings)) as workspace,
    ):
        measurements = Measurements(workspace, pool, settings)
        batches = measurements.held_out_batches
        measurements.prepare([Reference(batch) for batch in batches])
        found = {}
        for name, schedule in schedules.items():
            units = [Evaluate(batch, schedule, (METRIC,)) for batch in batches]
            parts = [each.arrays[METRIC] for each in measurements.all_of(units)]
            found[name] = np.concatenate(parts).astype(np.float64)
    return found


def compared(values: dict[str, NDArray[np.float64]], name: str, to: str) -> dict[str, Any]:
    """Return the paired difference of two schedules."""
    difference = paired_difference(values[name], values[to])
    return {
        "of": name,
        "to": to,
        "mean": round(difference.mean, 3),
        "low": round(difference.low, 3),
        "high": round(difference.high, 3),
        "win_rate": round(difference.win_rate, 3),
    }


def main() -> None:
    """Search on both executors, and compare on blocks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    setup = load_setup("embedded")
    schedules, steps = {EVEN: UniformPolicy(STEPS).schedule(BUDGET)}, {}
    for mechanism in (USUAL, BLOCKS):
        name = mechanism.executor
        schedules[name], steps[name] = searched(setup, mechanism, arguments.work / name)
    values = held_out_values(setup, schedules, arguments.work / "held-out")
    result = {
        "model": "embedded",
        "run_on": str(BLOCKS),
        "settings": {"pairs": PAIRS, "held_out": HELD_OUT, "trials": TRIALS, "budget": BUDGET},
        "computed_steps": {name: each.computed_steps for name, each in schedules.items()},
        "denoising_steps": steps,
        METRIC: {name: round(float(each.mean()), 3) for name, each in values.items()},
        "differences": [
            compared(values, BLOCKS.executor, USUAL.executor),
            compared(values, BLOCKS.executor, EVEN),
            compared(values, USUAL.executor, EVEN),
        ],
    }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
