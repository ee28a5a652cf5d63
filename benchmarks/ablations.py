"""The paper's ablations on our models: rho, the anchor's budget, and how the anchor is searched.

    nice python -m benchmarks.ablations flow-1 flow-2 --work DIR --output FILE

OTCache (arXiv 2606.31026) by the paper's own procedure, which is there by name as the effort
`paper`: every calibration pair is searched alone, what the searches found is pooled, all pairs
judge the pool, and schedules between the anchor and MeanCache's at 20 of 50 steps are predicted.
One thing at a time is changed:

- rho of the predictions from the anchor of 8 steps (its Table 5), nothing else;
- the budget of the anchor, 8, 6 and 4, with rho chosen on the calibration pairs (Table 6);
- where the searches of 8 steps begin: at MeanCache, at even steps, or each at random steps of its
  own (Fig. 10);
- how many of each pair's finds go into the pool (Table 4), and after how many trials a pair's
  search has found its best (Fig. 8).

What comes of it runs on held-out pairs; differences are paired, with 95 % intervals, and a mark
says that one is significant after Holm's correction for the budgets of its row. What a search
gains on the very pairs that it searched is given beside, as the paper gives it: on other pairs
little of it may be left. Steps are denoising steps of the searches, each pair's own, replays taken
off; what an earlier search had run counts there alone. With the same `--work` it goes on where it
was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from otcache_policies import MeanCachePolicy, OTCachePolicy, Schedule, wasserstein_barycentre
from otcache_policies.prediction import constant_warp
from rich.console import Console
from rich.table import Table

from benchmarks.efforts import STEPS, context_of
from benchmarks.models import DEVELOPMENT, FINAL
from benchmarks.rows import keep, mark, rows_of
from otcache_plugin.calibration.calibrate import manifest_of
from otcache_plugin.calibration.context import MeasuredContext
from otcache_plugin.calibration.evidence.gathering import begin_evidence
from otcache_plugin.calibration.evidence.peers import evenly
from otcache_plugin.calibration.meancache import tuned
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.units import Evaluate
from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
from otcache_plugin.calibration.searching.candidates import ScheduleSearch, SearchTask
from otcache_plugin.calibration.searching.default_search import ClimbsAndRounds
from otcache_plugin.calibration.searching.graph_and_rho import best_of, graph_candidates, tune_rho
from otcache_plugin.calibration.searching.scopes import PerPairSearch
from otcache_plugin.calibration.settings import (
    BEST_OF_EACH_PAIR,
    MeasuringSettings,
    SearchSettings,
)
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.calibrating import Study

PAIRS, TRIALS, PATIENCE, HELD_OUT = 8, 40, 20, 64
"""Fewer than the paper's 50 pairs and 200 trials; with its climbs a search has 88 at most."""

REFERENCE, ANCHOR = 20, 8
ANCHORS = (8, 6, 4)
PREDICTED = (10, 12, 15)
RHOS = (1.0, 1.15, 1.3, 1.45)
THE_PAPERS_RHO = 1.3
TOPS = (1, 2, 3, 5)
MEANCACHE, UNIFORM, RANDOM = "meancache", "uniform", "random"
METRIC = "psnr"

Values = dict[tuple[str, int], dict[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class Searched:
    """What the searches of all pairs found at one budget.

    Attributes:
        starts: of each pair.
        found: likewise.
        steps: denoising steps that they took.
    """

    starts: tuple[Schedule, ...]
    found: tuple[ScheduleSearch, ...]
    steps: int

    def tops(self) -> list[float]:
        """Return the mean PSNR of the pairs' best, second best … on the pairs themselves.

        A pair that found fewer counts with its last.
        """
        each = [[trial.loss for trial in search.best(max(TOPS))] for search in self.found]
        places = range(max(TOPS))
        return [-float(np.mean([own[min(at, len(own) - 1)] for own in each])) for at in places]

    def trials_until_best(self) -> list[int]:
        """Return after how many trials each pair's search had found its best."""
        return [int(np.argmin(search.best_losses)) for search in self.found]

    def pool(self, count: int, graph: MeanCachePolicy) -> list[Schedule]:
        """Return what all pairs are to judge, as the procedure has it with two of each pair."""
        best = [[trial.schedule for trial in search.best(count)] for search in self.found]
        first = self.starts[0]
        mean = wasserstein_barycentre([each[0] for each in best], first.budget)
        looks = graph.edges.look_backs(mean, graph.settings)
        barycentre = Schedule(mean, first.num_inference_steps, looks)
        schedules = [schedule for each in best for schedule in each]
        return list(dict.fromkeys([first, barycentre, *schedules]))


@dataclass(frozen=True)
class Bench:
    """One model, everything measured on it kept in one working folder."""

    context: MeasuredContext
    measurements: Measurements
    graph: MeanCachePolicy

    def meancache(self, budget: int) -> Schedule:
        """Return MeanCache's schedule in the reading that is best at this budget."""
        readings = graph_candidates(self.graph.edges)
        return best_of([each.schedule(budget) for each in readings], self.context.best)

    def starts(self, name: str, budget: int) -> list[Schedule]:
        """Return where each pair's search begins."""
        if name == MEANCACHE:
            return [self.meancache(budget)] * PAIRS
        if name == UNIFORM:
            return [evenly(self.graph.edges, self.graph.settings)(budget)] * PAIRS
        rng = np.random.default_rng(budget)
        inner = [rng.choice(STEPS - 2, budget - 2, replace=False) + 1 for _ in range(PAIRS)]
        return [self._schedule((0, *sorted(each.tolist()), STEPS - 1)) for each in inner]

    def _schedule(self, steps: tuple[int, ...]) -> Schedule:
        """Return the schedule of these steps with the look-backs that the edge table has."""
        return Schedule(steps, STEPS, self.graph.edges.look_backs(steps, self.graph.settings))

    def searched(self, start: str, budget: int) -> Searched:
        """Search every pair alone."""
        algorithm = ClimbsAndRounds(SearchSettings(TRIALS, PATIENCE))
        starts = self.starts(start, budget)
        spent = self.measurements.denoising_steps
        panels = PerPairSearch().panels(f"{start} {budget}", self.context.batches)

        def task(name: str, warm_start: Schedule) -> SearchTask:
            def study(part: str) -> Study:
                return self.context.study(f"{name}, {part}")

            looks, seed = self.graph.edges.max_look_back, self.context.seed
            return SearchTask(warm_start, panels[name], looks, seed, study)

        named = zip(panels, starts, strict=True)
        searches = {name: algorithm.search(task(name, first)) for name, first in named}
        found = tuple(self.context.drive(searches).values())
        return Searched(tuple(starts), found, self.measurements.denoising_steps - spent)

    def anchor(self, searched: Searched, count: int = BEST_OF_EACH_PAIR) -> Schedule:
        """Return the best of the pool on all calibration pairs."""
        return best_of(searched.pool(count, self.graph), self.context.best)

    def policy(self, anchor: Schedule, rho: float = 1.0) -> OTCachePolicy:
        """Return the paper's predictions between an anchor and the reference."""
        graph, reference = self.graph, self.meancache(REFERENCE)
        return OTCachePolicy(
            anchor, reference, rho, graph.edges, graph.settings, warp=constant_warp
        )

    def values(self, served: Mapping[tuple[str, int], Schedule]) -> Values:
        """Return what schedules give on the held-out pairs."""
        begin_evidence(len(served), self.measurements, Unwatched())
        batches = self.measurements.held_out_batches
        units = [Evaluate(batch, each, (METRIC,)) for each in served.values() for batch in batches]
        measured = iter(self.measurements.all_of(units))
        return {
            name: {METRIC: np.concatenate([next(measured).arrays[METRIC] for _ in batches])}
            for name in served
        }


@contextmanager
def opened(setup: ModelSetup, work: Path) -> Iterator[Bench]:
    """Record a model, or go on with it, and give what searches and measures."""
    settings = MeasuringSettings(STEPS, METRIC, PAIRS, HELD_OUT, batch_size=16)
    with (
        LocalPool(lambda: setup, settings, work / SCRATCH_FOLDER) as pool,
        Workspace(work, manifest_of(pool.facts, settings)) as workspace,
    ):
        measurements = Measurements(workspace, pool, settings)
        name = f"ablations-{PAIRS}-{TRIALS}"
        context = context_of(measurements, pool, "otcache", name, {"patience": PATIENCE})
        yield Bench(context, measurements, tuned(context.edges(), (ANCHOR,), context))


def of_rho(bench: Bench, anchor: Schedule) -> dict[str, Any]:
    """Return what rho does to the predictions, against the paper's."""
    served = {
        (str(rho), budget): bench.policy(anchor, rho).schedule(budget)
        for rho in RHOS
        for budget in PREDICTED
    }
    return compared(bench.values(served), str(THE_PAPERS_RHO))


def of_anchors(bench: Bench, searches: Mapping[int, Searched]) -> dict[str, Any]:
    """Return what the anchor's budget does to the predictions, against one of 8 steps."""
    policies = {
        budget: tune_rho(bench.policy(bench.anchor(each)), PREDICTED, bench.context.best)
        for budget, each in searches.items()
    }
    served = {
        (str(anchor), budget): policy.schedule(budget)
        for anchor, policy in policies.items()
        for budget in PREDICTED
    }
    rows = compared(bench.values(served), str(ANCHOR))
    return {
        str(anchor): {
            "rows": rows[str(anchor)],
            "rho": policy.rho,
            "steps": searches[anchor].steps,
            "anchor": policy.anchor.computed_steps,
        }
        for anchor, policy in policies.items()
    }


def of_starts(bench: Bench, searches: Mapping[str, Searched]) -> dict[str, Any]:
    """Return what comes of each start, against that from MeanCache, and against MeanCache's own."""
    served = {(name, ANCHOR): bench.anchor(each) for name, each in searches.items()}
    values = bench.values({**served, ("graph", ANCHOR): bench.meancache(ANCHOR)})
    to_graph, to_meancache = compared(values, "graph"), compared(values, MEANCACHE)
    found = {}
    for name, each in searches.items():
        found[name] = {
            "own_pairs_start": -float(np.mean([own.warm_start.loss for own in each.found])),
            "own_pairs": each.tops(),
            "trials_until_best": each.trials_until_best(),
            "trials": [len(own.best_losses) - 1 for own in each.found],
            "steps": each.steps,
            "to_graph": to_graph[name],
            "to_meancache": to_meancache[name],
        }
    return found


def of_tops(bench: Bench, searched: Searched) -> dict[str, Any]:
    """Return what comes of pools of each pair's best, two best …, against the procedure's two."""
    pools = {count: searched.pool(count, bench.graph) for count in TOPS}
    served = {(str(count), ANCHOR): bench.anchor(searched, count) for count in TOPS}
    rows = compared(bench.values(served), str(BEST_OF_EACH_PAIR))
    return {
        str(count): {"pool": len(pool), "rows": rows[str(count)]} for count, pool in pools.items()
    }


def compared(values: Values, baseline: str) -> dict[str, list[dict[str, Any]]]:
    """Return every name's rows against a baseline's."""
    names = dict.fromkeys(name for name, _ in values)
    return {name: rows_of(values, name, baseline, METRIC) for name in names}


def bench_model(name: str, work: Path) -> dict[str, Any]:
    """Return every figure of one model."""
    with opened({**DEVELOPMENT, **FINAL}[name](), work) as bench:
        starts = {each: bench.searched(each, ANCHOR) for each in (MEANCACHE, UNIFORM, RANDOM)}
        others = {each: bench.searched(MEANCACHE, each) for each in ANCHORS if each != ANCHOR}
        usual = starts[MEANCACHE]
        return {
            "model": name,
            "pairs": PAIRS,
            "trials": TRIALS,
            "patience": PATIENCE,
            "held_out_pairs": HELD_OUT,
            "rho": of_rho(bench, bench.anchor(usual)),
            "anchors": of_anchors(bench, {ANCHOR: usual, **others}),
            "starts": of_starts(bench, starts),
            "tops": of_tops(bench, usual),
            "steps": bench.measurements.denoising_steps,
        }


def print_model(result: Mapping[str, Any]) -> None:
    """Print one model's differences."""
    table = Table("changed", "to", "PSNR − baseline's, dB", title=str(result["model"]))

    def cells(rows: Sequence[Mapping[str, Any]]) -> str:
        return ", ".join(
            f"{row['budget']}: {row['difference']:+.2f}±{row['standard_error']:.2f}{mark(row)}"
            for row in rows
        )

    for rho, rows in result["rho"].items():
        table.add_row("rho", rho, cells(rows))
    for anchor, each in result["anchors"].items():
        table.add_row("anchor", f"{anchor}, {each['steps']:,} steps", cells(each["rows"]))
    for start, each in result["starts"].items():
        table.add_row("start", f"{start}, {each['steps']:,} steps", cells(each["to_graph"]))
    for count, each in result["tops"].items():
        table.add_row("top", count, cells(each["rows"]))
    Console(width=160).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", choices=list({**DEVELOPMENT, **FINAL}))
    parser.add_argument("--work", type=Path, required=True, help="folder of all measurements")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    arguments = parser.parse_args()
    for name in arguments.models:
        result = bench_model(name, arguments.work / name)
        print_model(result)
        keep(arguments.output, name, result)


if __name__ == "__main__":
    main()
