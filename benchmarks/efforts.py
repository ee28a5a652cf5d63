"""What does a calibration buy? Quality against denoising steps, every procedure on the same pairs.

    python -m benchmarks.efforts flow-1 embedded --work DIR --output benchmarks/results/efforts.json
    python -m benchmarks.efforts flow-5 flow-6 --procedures quick,standard --work DIR
    python -m benchmarks.efforts flow-5 --procedures standard --held-out 512 --budgets 10,12,15 …
    python -m benchmarks.efforts flow-5 --procedures standard --known efforts.json …

Each procedure calibrates on its own calibration pairs. Then what it serves at every budget runs on
the same held-out pairs, and is compared to the graph policy's best schedule at that very budget: of
all readings of the edge table the one whose real runs on 48 calibration pairs are best. Intervals
are 95 %, paired; "behind" and "ahead" are corrected for the number of budgets (Holm). What finding
that graph schedule took is not charged to any procedure, for it is there to be compared with.

Where one procedure has changed, `--known` takes the schedules of all others from earlier results;
they run on the held-out pairs again, and cost no calibration.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from otcache_policies import Policy, Schedule
from rich.console import Console
from rich.table import Table

from benchmarks.metrics import LPIPS, add_lpips_option, metrics_with
from benchmarks.models import DEVELOPMENT, FINAL
from benchmarks.options import HELD_OUT, add_held_out_option, listed
from benchmarks.rows import cell, keep, over_budgets, rows_of
from otcache_plugin.calibration.calibrate import manifest_of
from otcache_plugin.calibration.context import MeasuredContext
from otcache_plugin.calibration.evidence.gathering import begin_evidence
from otcache_plugin.calibration.measuring.facts import sampling_of
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
from otcache_plugin.calibration.procedures.procedure import recorded
from otcache_plugin.calibration.searching.graph_and_rho import graph_candidates
from otcache_plugin.calibration.searching.journal import TrialJournal
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.metrics import METRICS, Metric
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.host import plugin_host

STEPS, BATCH = 50, 16
BUDGETS = tuple(range(8, 21))
COMPARISON_PAIRS = 48
"""On which the graph policy's best reading is found."""

BUDCACHE_BUDGETS = (8, 10, 12, 15)
"""It searches them one by one, every candidate on all pairs: hence few of these."""


@dataclass(frozen=True)
class Procedure:
    """A way to calibrate: options of a policy's calibrator, pairs, and the budgets looked at."""

    pairs: int
    options: Mapping[str, object]
    policy: str = "otcache"
    budgets: Sequence[int] = BUDGETS


PROCEDURES: dict[str, Procedure] = {
    "quick": Procedure(32, {"effort": "quick"}),
    "standard": Procedure(48, {"effort": "standard"}),
    "thorough": Procedure(96, {"effort": "thorough"}),
    "paper": Procedure(48, {"effort": "paper"}),
    "joint searches": Procedure(
        48, {"effort": "paper", "search": "joint", "waypoints": (10, 12, 15)}
    ),
    "budcache": Procedure(8, {"budgets": BUDCACHE_BUDGETS}, "budcache", BUDCACHE_BUDGETS),
}
LPIPS_OF, LPIPS_BUDGETS = ("graph", "standard"), (8, 10, 15)
"""What LPIPS is measured of: VGG16 takes longer than everything else together."""


@dataclass
class Found:
    """What a procedure found.

    Attributes:
        schedules: by budget.
        steps: denoising steps that it took, each pair's own.
        pairs: calibration pairs.
        seconds: of all of it here, the optimiser included.
    """

    schedules: dict[int, Schedule]
    steps: int
    pairs: int
    seconds: float = 0.0
    families: dict[int, str] = field(default_factory=dict)


class Bench:
    """One model, everything measured on it kept in one working folder."""

    def __init__(self, setup: ModelSetup, work: Path) -> None:
        self.setup, self._work = setup, work

    @contextmanager
    def measured(self, pairs: int) -> Iterator[tuple[Measurements, LocalPool]]:
        """Give what measures on so many calibration pairs."""
        settings = MeasuringSettings(STEPS, "psnr", pairs, HELD_OUT, batch_size=BATCH)
        scratch = self._work / SCRATCH_FOLDER
        with (
            LocalPool(lambda: self.setup, settings, scratch) as pool,
            Workspace(self._work, manifest_of(pool.facts, settings)) as workspace,
        ):
            yield Measurements(workspace, pool, settings), pool

    def calibrated(self, procedure: Procedure) -> Found:
        """Return what a procedure serves."""
        started = time.monotonic()
        with self.measured(procedure.pairs) as (measurements, pool):
            task = calibration_task(procedure.policy, procedure.options, STEPS)
            name = f"{task.name}-{task.options.model_dump().get('search')}-{procedure.pairs}"
            context = context_of(measurements, pool, task.policy, name, task.manifest)
            calibrated = task.calibrator.calibrate(task.options, context)
            seconds = time.monotonic() - started
            steps = measurements.denoising_steps
            sampling = sampling_of(pool.facts, begin_evidence(0, measurements, Unwatched()))
            policy = plugin_host().policy_found(procedure.policy, calibrated, sampling)
            assert isinstance(policy, Policy), "procedures are of policies with schedules"
        schedules = {budget: policy.schedule(budget) for budget in procedure.budgets}
        served = calibrated.parameters.get("served", ())
        families = {each["budget"]: each["family"] for each in served}
        return Found(schedules, steps, procedure.pairs, seconds, families)

    def best_graph(self) -> dict[str, dict[int, Schedule]]:
        """Return the graph policy's best schedules: by real runs, and by the recording alone."""
        with self.measured(COMPARISON_PAIRS) as (measurements, pool):
            context = context_of(measurements, pool, "graph", "graph", {})
            readings = graph_candidates(context.edges())
            real = {}
            for budget in BUDGETS:
                schedules = list(dict.fromkeys(each.schedule(budget) for each in readings))
                losses = measurements.losses(schedules, METRICS["psnr"])
                means = [float(each.losses.mean()) for each in losses]
                real[budget] = schedules[int(np.argmin(means))]
            few = recorded(context, range(PROCEDURES["quick"].pairs))
        alone = {budget: few.graph(budget)[0] for budget in BUDGETS}
        return {"graph": real, "graph by recording": alone}

    def held_out(
        self, count: int = HELD_OUT
    ) -> Callable[[Schedule, Sequence[Metric]], dict[str, NDArray[np.float64]]]:
        """Return what gives a schedule's values on so many held-out pairs."""
        pairs = self.setup.held_out_pairs(count)
        arguments = {**self.setup.call_arguments, "num_inference_steps": STEPS}
        evaluator = Evaluator(self.setup.pipe, pairs, arguments, BATCH)

        def values(schedule: Schedule, metrics: Sequence[Metric]) -> dict[str, NDArray[np.float64]]:
            found = evaluator.values(schedule, *metrics)
            return {metric.name: each for metric, each in zip(metrics, found, strict=True)}

        return values


def context_of(
    measurements: Measurements,
    pool: LocalPool,
    policy: str,
    name: str,
    manifest: Mapping[str, Any],
) -> MeasuredContext:
    """Return what a policy's calibrator is given, with a journal of that name."""
    journal = TrialJournal(measurements.workspace.claim(name, manifest).journal)
    return MeasuredContext(measurements, journal, Unwatched(), policy, pool.facts)


def found_before(result: Mapping[str, Any]) -> dict[str, Found]:
    """Return what procedures found, from the figures of a model."""
    return {
        name: Found(
            {int(budget): Schedule(**each) for budget, each in own["schedules"].items()},
            own["steps"],
            own["pairs"],
            own["seconds"],
            {int(budget): family for budget, family in own["families"].items()},
        )
        for name, own in result["procedures"].items()
    }


def bench(
    setup: ModelSetup,
    work: Path,
    procedures: Sequence[str],
    before: Mapping[str, Found],
    metrics: Sequence[Metric],
    held_out: int,
    budgets: Sequence[int],
) -> dict[str, Any]:
    """Return every figure of one model at some budgets.

    Args:
        setup: the model.
        work: folder of its measurements.
        procedures: that calibrate now.
        before: what others found.
        metrics: that schedules are judged by.
        held_out: pairs that they are judged on.
        budgets: that are compared.
    """
    console = Console(stderr=True)
    model = Bench(setup, work)
    graph = model.best_graph()
    anew: dict[str, Found] = {}
    for name in procedures:
        console.print(f"{setup.name}: {name}")
        anew[name] = model.calibrated(PROCEDURES[name])
        console.print(f"  {anew[name].steps:,} steps, {anew[name].seconds:.0f} s")
    either = {**before, **anew}
    found = {name: either[name] for name in PROCEDURES if name in either}
    schedules = {**graph, **{name: each.schedules for name, each in found.items()}}
    measure = model.held_out(held_out)
    cheap = [metric for metric in metrics if metric.name not in LPIPS]
    known: dict[Schedule, dict[str, NDArray[np.float64]]] = {}
    values = {}
    for name, own in schedules.items():
        for budget in sorted(own.keys() & budgets):
            schedule = own[budget]
            wanted = metrics if name in LPIPS_OF and budget in LPIPS_BUDGETS else cheap
            if not all(metric.name in known.get(schedule, {}) for metric in wanted):
                known[schedule] = measure(schedule, wanted)
            values[name, budget] = known[schedule]
    held_against_joint = [
        name
        for name in found
        if "joint searches" in found and name not in ("joint searches", "budcache")
    ]
    return {
        "model": setup.name,
        "held_out_pairs": held_out,
        "procedures": {
            name: {
                "steps": each.steps,
                "pairs": each.pairs,
                "seconds": round(each.seconds, 1),
                "families": each.families,
                "schedules": {
                    budget: asdict(schedule) for budget, schedule in each.schedules.items()
                },
                "to_graph": {
                    metric.name: rows_of(values, name, "graph", metric.name)
                    for metric in metrics
                    if metric in cheap or name in LPIPS_OF
                },
                "to_graph_by_recording": rows_of(values, name, "graph by recording", "psnr"),
            }
            for name, each in found.items()
        },
        "to_joint_searches": {
            name: rows_of(values, name, "joint searches", "psnr") for name in held_against_joint
        },
        "to_joint_searches_over_budgets": {
            name: over_budgets(values, name, "joint searches") for name in held_against_joint
        },
    }


def print_model(result: Mapping[str, Any]) -> None:
    """Print one model's PSNR against the graph policy's best."""
    table = Table("procedure", "steps", *map(str, BUDGETS), "mean", title=str(result["model"]))
    for name, each in result["procedures"].items():
        rows = {row["budget"]: row for row in each["to_graph"]["psnr"]}
        cells = [cell(rows.get(budget)) for budget in BUDGETS]
        mean = np.mean([row["difference"] for row in rows.values()])
        table.add_row(name, f"{each['steps']:,}", *cells, f"{mean:+.2f}")
    Console(width=260).print(table)
    for name, rows in result["to_joint_searches"].items():
        cells = [f"{row['budget']}: {cell(row)}" for row in rows]
        print(f"  {name} − joint searches: " + ", ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    models = {**DEVELOPMENT, **FINAL}
    parser.add_argument("models", nargs="+", choices=list(models))
    parser.add_argument("--procedures", default=",".join(PROCEDURES), help=", ".join(PROCEDURES))
    add_held_out_option(parser)
    every = ",".join(map(str, BUDGETS))
    parser.add_argument("--budgets", default=every, help=f"those that are compared, of {every}")
    parser.add_argument("--work", type=Path, required=True, help="folder of all measurements")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    parser.add_argument("--known", type=Path, help="figures whose other procedures are kept")
    add_lpips_option(parser)
    arguments = parser.parse_args()
    procedures = listed(parser, "--procedures", arguments.procedures, PROCEDURES)
    if unknown := [each for each in arguments.budgets.split(",") if each not in every.split(",")]:
        parser.error(f"--budgets: {', '.join(unknown)} is none of {every}")
    if arguments.known is not None and not arguments.known.is_file():
        parser.error(f"--known: there is no file {arguments.known}; leave it out to keep nothing")
    budgets = [int(each) for each in arguments.budgets.split(",")]
    metrics = metrics_with(arguments.lpips_home)
    earlier = json.loads(arguments.known.read_text()) if arguments.known else {}
    for name in arguments.models:
        work = arguments.work / name
        before = found_before(earlier[name]) if name in earlier else {}
        pairs = arguments.held_out
        result = bench(models[name](), work, procedures, before, metrics, pairs, budgets)
        print_model(result)
        keep(arguments.output, name, result)


if __name__ == "__main__":
    main()
