"""LeMiCa's own ablations on our models: how many samples its edges take, and which path is best.

    nice python -m benchmarks.lemica exact-flow embedded --work DIR --output FILE

Every segment is cached alone on the same calibration pairs. Table 2 of the paper: edges averaged
over 1, 5, 10 or all 20 of them, drawn at random, and the minimax path through these. Table 3: the
shortest path against the minimax path through the edges of all pairs. Every path runs on the same
held-out pairs; differences are paired, with 95 % intervals.

Beside the tables stands what a path rule goes by: on schedules around both paths, how the sum of
the edges and the worst of them rank what really happens to the latents of the calibration pairs,
and how far that is from the sum.
All of it goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from otcache_policies import LeMiCaPolicy, OutcomeTable, Schedule, Segment, caching_alone
from otcache_policies.lemica import PathRule
from otcache_policies.outcomes import segments_to_measure
from rich.console import Console
from scipy.stats import spearmanr

from benchmarks.efforts import context_of
from benchmarks.models import FLOWS, flow_setup
from benchmarks.rows import keep
from otcache_plugin.calibration.calibrate import manifest_of
from otcache_plugin.calibration.context import MeasuredContext
from otcache_plugin.calibration.evidence.gathering import begin_evidence
from otcache_plugin.calibration.lemica import OUTCOME, outcome_table
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.units import Evaluate
from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.evaluation.statistics import paired_difference
from otcache_plugin.models.setups import ModelSetup, load_setup

STEPS, PAIRS, BUDGETS = 50, 20, (8, 10, 12, 15)
SAMPLES = 1, 5, 10
"""Of the pairs, each drawn several times; all of them are the last row."""

DRAWS = 10
AROUND = 24
"""Schedules of each budget around the two paths."""

TIPPED = 5
"""Times the sum of its edges, that a pair's outcome is beyond when it became another picture."""

METRICS = "psnr", "ssim"
MODELS = ("exact-flow", "embedded", *FLOWS)

Values = Mapping[str, NDArray[np.float64]]
"""Of the held-out pairs, by metric."""

HeldOut = Callable[[Sequence[Schedule]], dict[Schedule, Values]]


@dataclass(frozen=True)
class Edges:
    """What every segment does to the outcome of every pair.

    Attributes:
        segments: that were cached alone.
        outcomes: `(segments, pairs)`.
    """

    segments: Sequence[Segment]
    outcomes: NDArray[np.float64]

    def table(self, pairs: Sequence[int] | None = None) -> OutcomeTable:
        """Return the outcome table of some pairs, None for all."""
        chosen = self.outcomes if pairs is None else self.outcomes[:, list(pairs)]
        return outcome_table(self.segments, chosen, STEPS)

    def sums(self, schedule: Schedule) -> NDArray[np.float64]:
        """Return the sum of a schedule's edges on each pair."""
        cached = {(each.start, each.end) for each in schedule.segments if each.gap > 1}
        rows = [(each.start, each.end) in cached for each in self.segments]
        total: NDArray[np.float64] = self.outcomes[rows].sum(axis=0)
        return total


@dataclass
class Bench:
    """One model, everything measured on it kept in one working folder."""

    context: MeasuredContext
    measurements: Measurements
    edges: Edges

    def held_out(self, schedules: Sequence[Schedule]) -> dict[Schedule, Values]:
        """Return what schedules give on the held-out pairs."""
        begin_evidence(len(schedules), self.measurements, Unwatched())
        batches = self.measurements.held_out_batches
        wanted = list(dict.fromkeys(schedules))
        units = [Evaluate(batch, each, METRICS) for each in wanted for batch in batches]
        measured = iter(self.measurements.all_of(units))
        found: dict[Schedule, Values] = {}
        for schedule in wanted:
            parts = [next(measured).arrays for _ in batches]
            found[schedule] = {
                name: np.concatenate([part[name] for part in parts]) for name in METRICS
            }
        return found


@contextmanager
def opened(setup: ModelSetup, work: Path, max_skip: int, held_out: int) -> Iterator[Bench]:
    """Measure every segment's outcome on all pairs, or go on with it, and give what measures."""
    settings = MeasuringSettings(STEPS, "psnr", PAIRS, held_out, batch_size=PAIRS)
    with (
        LocalPool(lambda: setup, settings, work / SCRATCH_FOLDER) as pool,
        Workspace(work, manifest_of(pool.facts, settings)) as workspace,
    ):
        measurements = Measurements(workspace, pool, settings)
        context = context_of(measurements, pool, "lemica", "lemica", {})
        segments = [Segment(*each, 1) for each in segments_to_measure(STEPS, max_skip)]
        schedules = [caching_alone(each, STEPS) for each in segments]
        values = context.values(schedules, [OUTCOME])
        outcomes = np.array([each[OUTCOME] for each in values])
        yield Bench(context, measurements, Edges(segments, outcomes))


def draws(seed: int = 0) -> dict[int, list[tuple[int, ...]]]:
    """Return the pairs of every draw, by their number."""
    rng = np.random.default_rng(seed)
    return {
        count: [
            tuple(sorted(rng.choice(PAIRS, count, replace=False).tolist())) for _ in range(DRAWS)
        ]
        for count in SAMPLES
    }


def samples_table(edges: Edges, held_out: HeldOut) -> list[dict[str, Any]]:
    """Return Table 2: what paths give by how many samples their edges are averaged over."""
    every = {**draws(), PAIRS: [tuple(range(PAIRS))]}
    tables = {count: [edges.table(each) for each in drawn] for count, drawn in every.items()}
    rows = []
    for budget in BUDGETS:
        paths = {
            count: [LeMiCaPolicy(table).schedule(budget) for table in each]
            for count, each in tables.items()
        }
        values = held_out([path for each in paths.values() for path in each])
        (best,) = paths[PAIRS]
        for count, each in paths.items():
            row: dict[str, Any] = {"samples": count, "budget": budget, "paths": len(set(each))}
            for metric in METRICS:
                own = np.array([values[path][metric] for path in each])
                row[metric] = float(own.mean())
                row[f"{metric}_spread"] = float(own.mean(axis=1).std())
                row[f"{metric}_to_all"] = difference(own.mean(axis=0), values[best][metric])
            rows.append(row)
    return rows


def paths_table(edges: Edges, held_out: HeldOut) -> list[dict[str, Any]]:
    """Return Table 3: the minimax path less the shortest one."""
    table, rows = edges.table(), []
    for budget in BUDGETS:
        paths = {rule: LeMiCaPolicy(table, rule).schedule(budget) for rule in get_args(PathRule)}
        values = held_out(list(paths.values()))
        row: dict[str, Any] = {"budget": budget}
        for rule, path in paths.items():
            costs = costs_of(table, path)
            row[rule] = {
                "steps": path.computed_steps,
                "worst_edge": max(costs),
                "sum_of_edges": sum(costs),
                **{metric: float(values[path][metric].mean()) for metric in METRICS},
            }
        for metric in METRICS:
            own, other = (values[paths[rule]][metric] for rule in ("minimax", "shortest"))
            row[f"{metric}_difference"] = difference(own, other)
        rows.append(row)
    return rows


def ranks(bench: Bench) -> list[dict[str, Any]]:
    """Return how the edges' sum, and the worst of them, tell what schedules do to the outcome.

    The ranks are those of the median over pairs: a pair that tips into another picture outweighs
    all others in a mean, and is counted on its own.
    """
    edges, rng, rows = bench.edges, np.random.default_rng(1), []
    table = edges.table()
    for budget in BUDGETS:
        paths = [LeMiCaPolicy(table, rule).schedule(budget) for rule in get_args(PathRule)]
        schedules = list(dict.fromkeys([*paths, *around(paths, table.max_gap, rng)]))
        values = bench.context.values(schedules, [OUTCOME])
        real = np.array([each[OUTCOME] for each in values])
        sums = np.array([edges.sums(each) for each in schedules])
        worst = [max(costs_of(table, each)) for each in schedules]
        medians = np.median(real, axis=1)
        rows.append(
            {
                "budget": budget,
                "schedules": len(schedules),
                "rank_of_sum": float(spearmanr(sums.mean(axis=1), medians).statistic),
                "rank_of_worst": float(spearmanr(worst, medians).statistic),
                "outcome_over_sum": float(np.median(real[0] / sums[0])),
                "tipped": int((real[0] > TIPPED * sums[0]).sum()),
            }
        )
    return rows


def around(paths: Sequence[Schedule], max_gap: int, rng: np.random.Generator) -> Iterator[Schedule]:
    """Yield schedules that differ from paths in a few steps, none with a gap too large."""
    found = 0
    while found < AROUND:
        path = paths[found % len(paths)]
        steps, last = set(path.computed_steps), path.num_inference_steps - 1
        for old in rng.choice(path.computed_steps[1:-1], 3, replace=False).tolist():
            new = int(np.clip(old + rng.integers(-4, 5), 1, last - 1))
            steps = steps - {old} | {new} if new not in steps else steps
        moved = Schedule(sorted(steps), path.num_inference_steps)
        if max(moved.gaps) <= max_gap:
            found += 1
            yield moved


def costs_of(table: OutcomeTable, schedule: Schedule) -> list[float]:
    """Return the edges of a schedule."""
    return [float(table.errors[edge]) for edge in pairwise(schedule.computed_steps)]


def difference(own: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, float]:
    """Return a paired difference and its interval."""
    found = paired_difference(own, other)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def bench_model(name: str, work: Path, max_skip: int, held_out: int) -> dict[str, Any]:
    """Return every figure of one model."""
    setup = flow_setup(name, FLOWS[name]) if name in FLOWS else load_setup(name)
    with opened(setup, work, max_skip, held_out) as bench:
        steps = bench.measurements.denoising_steps
        return {
            "model": name,
            "pairs": PAIRS,
            "held_out_pairs": held_out,
            "max_skip": max_skip,
            "draws": DRAWS,
            "steps_of_all_edges": steps,
            "samples": samples_table(bench.edges, bench.held_out),
            "paths": paths_table(bench.edges, bench.held_out),
            "ranks": ranks(bench),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", choices=MODELS)
    parser.add_argument("--work", type=Path, required=True, help="folder of all measurements")
    parser.add_argument("--max-skip", type=int, default=20, help="largest gap of a segment")
    parser.add_argument("--held-out", type=int, default=64, help="held-out pairs")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    for name in arguments.models:
        result = bench_model(name, arguments.work / name, arguments.max_skip, arguments.held_out)
        console.print_json(json.dumps(result["paths"]))
        keep(arguments.output, name, result)


if __name__ == "__main__":
    main()
