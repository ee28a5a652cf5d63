"""Is one learned policy at all budgets at least as good as uniform at each, and what does it take?

    python -m benchmarks.recache exact-flow embedded --work DIR \\
        --output benchmarks/results/recache.json

ReCache (arXiv 2606.06060) is trained in three ways: on the quadratic form of the recording alone,
on that and then on real runs, and on real runs alone, the paper's way. Each network's schedules run
on the same held-out pairs beside evenly spaced steps, all with look-back 2. Differences are paired,
with 95 % intervals; a mark says that one is significant after a correction for the number of
budgets (Holm). Steps are denoising steps of the training, each pair's own, the recording included.
With the same `--work` it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from otcache_policies import ReCachePolicy, Schedule, UniformPolicy
from rich.console import Console
from rich.table import Table

from benchmarks.efforts import STEPS, Bench, context_of
from benchmarks.metrics import add_lpips_option, metrics_with
from benchmarks.models import DEVELOPMENT, FINAL
from benchmarks.options import listed
from benchmarks.rows import keep, mark, rows_of
from otcache_plugin.calibration.evidence.gathering import begin_evidence
from otcache_plugin.calibration.measuring.facts import sampling_of
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.evaluation.metrics import Metric
from otcache_plugin.models.setups import ModelSetup, load_setup
from otcache_plugin.plugins.host import plugin_host

PAIRS = 48
BUDGETS = (6, 7, 8, 9, 10, 11, 12, 13, 15, 17, 20, 25)

TRAININGS: dict[str, dict[str, object]] = {
    "form": {"iterations": 0},
    "form and runs": {},
    "runs": {"pretraining": 0},
}
"""Options of each; the last two take as many real runs."""

UNIFORM = "uniform"

MODELS: dict[str, Callable[[], ModelSetup]] = {
    "exact-flow": partial(load_setup, "exact-flow"),
    **DEVELOPMENT,
    **FINAL,
}

Values = dict[tuple[str, int], dict[str, NDArray[np.float64]]]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained policy, and what it took.

    Attributes:
        policy: for every budget.
        trained_on: what the network that was chosen saw last: "form" or "runs".
        steps: denoising steps, the recording included.
        seconds: of all of it here.
    """

    policy: ReCachePolicy
    trained_on: str
    steps: int
    seconds: float


def trained(bench: Bench, name: str) -> Trained:
    """Train in one of the ways, or go on with it."""
    started = time.monotonic()
    with bench.measured(PAIRS) as (measurements, pool):
        task = calibration_task("recache", TRAININGS[name], STEPS)
        claimed = f"recache-{name.replace(' ', '-')}"
        context = context_of(measurements, pool, task.policy, claimed, task.manifest)
        calibrated = task.calibrator.calibrate(task.options, context)
        seconds, steps = time.monotonic() - started, measurements.denoising_steps
        sampling = sampling_of(pool.facts, begin_evidence(0, measurements, Unwatched()))
        policy = plugin_host().policy_found("recache", calibrated, sampling)
    trained_on = calibrated.settings["trained_on"]
    return Trained(cast("ReCachePolicy", policy), trained_on, steps, seconds)


def compared(bench: Bench, names: Sequence[str], metrics: Sequence[Metric]) -> dict[str, Any]:
    """Return every figure of one model."""
    console = Console(stderr=True)
    measure, ways = bench.held_out(), {}
    known: dict[Schedule, dict[str, NDArray[np.float64]]] = {}

    def values_of(schedule: Schedule) -> dict[str, NDArray[np.float64]]:
        if schedule not in known:
            known[schedule] = measure(schedule, metrics)
        return known[schedule]

    for name in names:
        found = trained(bench, name)
        console.print(f"{bench.setup.name}: {name}, {found.steps:,} steps, {found.seconds:.0f} s")
        methods = {
            name: found.policy.schedule,
            UNIFORM: UniformPolicy(STEPS, look_back=2).schedule,
        }
        values: Values = {
            (method, budget): values_of(schedule(budget))
            for method, schedule in methods.items()
            for budget in BUDGETS
        }
        ways[name] = {
            "trained_on": found.trained_on,
            "steps": found.steps,
            "seconds": round(found.seconds, 1),
            "computed": {each: _steps(found.policy.schedule(each)) for each in BUDGETS},
            "to_uniform": {
                each.name: rows_of(values, name, UNIFORM, each.name) for each in metrics
            },
        }
    return {"model": bench.setup.name, "pairs": PAIRS, "trainings": ways}


def joined(path: Path | None, model: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return one model's figures, beside those of other trainings that a file has of it."""
    known = json.loads(path.read_text()) if path is not None and path.exists() else {}
    before = known.get(model, {}).get("trainings", {})
    trainings = {**before, **result["trainings"]}
    return {
        **result,
        "trainings": {name: trainings[name] for name in TRAININGS if name in trainings},
    }


def _steps(schedule: Schedule) -> str:
    return " ".join(map(str, schedule.computed_steps))


def print_model(result: Mapping[str, Any]) -> None:
    """Print one model's PSNR against evenly spaced steps."""
    table = Table("training", "steps", *map(str, BUDGETS), title=str(result["model"]))
    for name, each in result["trainings"].items():
        cells = [_cell(row) for row in each["to_uniform"]["psnr"]]
        table.add_row(name, f"{each['steps']:,}", *cells)
    Console(width=260).print(table)


def _cell(row: Mapping[str, Any]) -> str:
    """Return a difference, marked where it is significant after the correction."""
    return f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]{mark(row)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", choices=list(MODELS))
    parser.add_argument("--trainings", default=",".join(TRAININGS), help=", ".join(TRAININGS))
    parser.add_argument("--work", type=Path, required=True, help="folder of all measurements")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    add_lpips_option(parser)
    arguments = parser.parse_args()
    names = listed(parser, "--trainings", arguments.trainings, TRAININGS)
    metrics = metrics_with(arguments.lpips_home)
    for model in arguments.models:
        result = compared(Bench(MODELS[model](), arguments.work / model), names, metrics)
        print_model(result)
        keep(arguments.output, model, joined(arguments.output, model, result))


if __name__ == "__main__":
    main()
