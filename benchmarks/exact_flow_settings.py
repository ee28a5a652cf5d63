"""Does OTCache's advantage hold on other exact flows than the default one?

    python benchmarks/exact_flow_settings.py --output benchmarks/results/exact-flow-settings.json

For each setting (number of scenes, kernel width, sigma shift) a policy is calibrated with the
default settings and compared with MeanCache and uniform on fresh held-out pairs, as
``benchmarks/schedules.py`` does. About two minutes a setting on 2 idle CPU cores.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from otcache_registry import StoredPolicy
from schedules import compare, print_table

from otcache_plugin.calibration.calibrate import CalibrationSettings, calibrate
from otcache_plugin.cli.output import StageProgress
from otcache_plugin.models.exact_flow import ExactFlowSettings, load_exact_flow_pipeline
from otcache_plugin.models.setups import load_setup
from otcache_plugin.origin import find_origin

BUDGETS = (8, 10, 12, 15)
SETTINGS = (
    ExactFlowSettings(),
    ExactFlowSettings(shift=2.2),
    ExactFlowSettings(kernel_width=0.5),
    ExactFlowSettings(scenes=2000),
    ExactFlowSettings(seed=1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    results = []
    for settings in SETTINGS:
        pipe = load_exact_flow_pipeline(settings)
        setup = replace(load_setup("exact-flow"), pipe=pipe, origin=find_origin(pipe))
        with StageProgress(quiet=False) as progress:
            result = calibrate(setup, CalibrationSettings(held_out_pairs=2), progress)
        stored = StoredPolicy(result.document, result.edges, settings.revision)
        comparison = compare(setup, stored, arguments.pairs, BUDGETS)
        print_table(comparison)
        results.append({"settings": asdict(settings), **json.loads(comparison.to_json())})
        if arguments.output:
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
