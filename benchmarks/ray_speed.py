"""How much faster is a calibration on two Ray workers than on one?

    python -m benchmarks.ray_speed

Calibrates the embedded model with small settings, first in this process on one thread, then on two
Ray workers of one thread each, and compares the times from the first measurement to the document.
Starting Ray and loading the model are timed apart. Needs two idle CPU cores. The documents have to
be the same.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from otcache_registry import PolicyDocument

from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.ray_pool import LOCAL, RayPool
from otcache_plugin.calibration.measuring.workspace import Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.cli.common.output import StageProgress
from otcache_plugin.models.source import ModelSource

WORKERS = 2
SETTINGS = MeasuringSettings(pairs=16, held_out_pairs=8, batch_size=4)
WAYPOINTS = (10, 12, 15)


@dataclass(frozen=True)
class Timed:
    """A calibration, the seconds that it took, and those before it could begin."""

    document: PolicyDocument
    seconds: float
    start_seconds: float


def timed(make_pool: Callable[[Path], LocalPool | RayPool]) -> Timed:
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.perf_counter()
        with make_pool(Path(scratch)) as pool:
            loaded = time.perf_counter()
            manifest = manifest_of(pool.facts, SETTINGS)
            with (
                Workspace(Path(scratch) / "work", manifest) as workspace,
                StageProgress(quiet=False) as progress,
            ):
                measurements = Measurements(workspace, pool, SETTINGS)
                options = {
                    "effort": "paper",
                    "search": "joint",
                    "waypoints": WAYPOINTS,
                    "trials": 30,
                }
                task = calibration_task("otcache", options, SETTINGS.num_inference_steps)
                result = calibrate(task, pool.facts, measurements, progress)
            return Timed(result.document, time.perf_counter() - loaded, loaded - begun)


def without_times(document: PolicyDocument) -> dict[str, object]:
    data = document.model_dump(mode="json")
    del data["calibration"]["seconds"], data["calibration"]["created"]
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    source = ModelSource("embedded")
    one = timed(lambda scratch: LocalPool(source.load, SETTINGS, scratch))
    two = timed(lambda _: RayPool(source.load, SETTINGS, LOCAL, WORKERS))
    if without_times(one.document) != without_times(two.document):
        raise SystemExit("the documents differ")
    figures = {
        "workers": WORKERS,
        "one_worker_seconds": round(one.seconds, 1),
        "ray_seconds": round(two.seconds, 1),
        "ratio": round(one.seconds / two.seconds, 2),
        "one_worker_start_seconds": round(one.start_seconds, 1),
        "ray_start_seconds": round(two.start_seconds, 1),
    }
    print(json.dumps(figures, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
