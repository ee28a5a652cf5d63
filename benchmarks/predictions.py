"""Does the anchor beat the best-tuned MeanCache, and do predictions keep up with direct searches?

    python -m benchmarks.predictions exact-flow --output predictions.json
    python -m benchmarks.predictions embedded --anchor 5

Calibrates each setting of the model with the defaults, then compares on fresh held-out pairs:

- OTCache with MeanCache at the same budget, that one read in whichever of 24 ways is best at this
  very budget on the calibration pairs;
- OTCache with two searches for this one budget alone, both begun at that best MeanCache schedule,
  with as many trials as OTCache spends on one of its schedules: "direct CMA-ES" moves gaps as in
  the paper, and look-backs after each round; "direct search" is OTCache's own.

OTCache's schedules at 8, 10, 12 and 15 are searched, those at 9, 11, 13 and 17 predicted.

The objective is PSNR; SSIM, the latents' error and, with `--lpips-home`, LPIPS stand beside it. A
difference of d dB is a squared error lower by 1 - 10^(-d/10).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from otcache_policies import EdgeTable, MeanCachePolicy, Schedule
from otcache_registry import StoredPolicy
from rich.console import Console
from rich.table import Table

from benchmarks.metrics import add_lpips_option, metrics_with
from benchmarks.models import flow_setup
from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.evidence.peers import policies_of
from otcache_plugin.calibration.measuring.losses import lowest
from otcache_plugin.calibration.measuring.measurements import Measurements
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
from otcache_plugin.calibration.otcache import climbs_and_rounds
from otcache_plugin.calibration.searching.candidates import Searching, SearchTask, begin
from otcache_plugin.calibration.searching.cma_es import search_round
from otcache_plugin.calibration.searching.graph_and_rho import graph_candidates
from otcache_plugin.calibration.searching.hill_climbing import climb, look_back_coordinates
from otcache_plugin.calibration.searching.journal import JournalStudy, TrialJournal
from otcache_plugin.calibration.searching.scopes import JointSearch
from otcache_plugin.calibration.settings import (
    MeasuringSettings,
    OTCacheOptions,
    Round,
    SearchSettings,
)
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.cli.common.output import StageProgress
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.metrics import Metric
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.evaluation.statistics import paired_difference
from otcache_plugin.models.exact_flow import ExactFlowSettings
from otcache_plugin.models.setups import HELD_OUT_SEEDS, ModelSetup, load_setup
from otcache_plugin.plugins.host import plugin_host

FRESH_SEEDS = 10 * HELD_OUT_SEEDS
"""First seed of the pairs; none from here on was looked at while anything was still chosen."""
FLOWS = (
    ExactFlowSettings(),
    ExactFlowSettings(shift=2.2),
    ExactFlowSettings(kernel_width=0.5),
    ExactFlowSettings(scenes=2000),
    ExactFlowSettings(seed=1),
)
BUDGETS = (8, 9, 10, 11, 12, 13, 15, 17)
SEARCHED_DIRECTLY = (10, 11, 12, 13, 15)
DIRECT = SearchSettings(trials=260, rounds=(Round(4, 9.0), Round(None, 4.5), Round(None, 2.25)))
"""Of the direct CMA-ES; with the look-backs' these are as many trials as the own search has."""
DIRECT_LOOK_BACKS = 60


@dataclass(frozen=True)
class Row:
    """One paired comparison on held-out pairs."""

    model: str
    budget: int
    policy: str
    compared_to: str
    metric: str
    pairs: int
    mean: float
    compared_mean: float
    difference: float
    low: float
    high: float
    win_rate: float
    squared_error_saved: float | None
    steps: tuple[int, ...]
    compared_steps: tuple[int, ...]


def best_tuned(measurements: Measurements, edges: EdgeTable, budget: int, metric: str) -> Schedule:
    """Return MeanCache's best schedule at this budget on the calibration pairs."""
    schedules = [policy.schedule(budget) for policy in graph_candidates(edges)]
    losses = measurements.losses(schedules, plugin_host().metric(metric))
    return schedules[lowest([[loss] for loss in losses])]


def search_directly(
    measurements: Measurements,
    graph: MeanCachePolicy,
    warm_start: Schedule,
    settings: MeasuringSettings,
    options: OTCacheOptions,
    journal: TrialJournal,
) -> dict[str, Schedule]:
    """Return the best schedules that searches for this budget alone find."""
    (panel,) = JointSearch().panels("direct", measurements.calibration_batches).values()
    largest = graph.edges.max_look_back

    def task(name: str) -> SearchTask:
        def study(part: str) -> JournalStudy:
            return journal.study(f"{name}, {part}")

        return SearchTask(warm_start, panel, largest, settings.seed, study)

    def cma_es(task: SearchTask) -> Searching:
        search = yield from begin(warm_start, panel)
        coordinates = look_back_coordinates(warm_start, largest)
        for number, moved in enumerate(DIRECT.rounds):
            trials = DIRECT.round_trials[number]
            search = yield from search_round(search, task, moved, number, DIRECT, trials)
            part = f"look-backs {number}"
            search = yield from climb(search, task, part, coordinates, DIRECT_LOOK_BACKS)
        return search

    searches = {
        "direct CMA-ES": cma_es(task(f"CMA-ES {warm_start.budget}")),
        "direct search": climbs_and_rounds(options).search(task(f"direct {warm_start.budget}")),
    }
    found = measurements.drive(searches, plugin_host().metric(settings.metric))
    return {name: search.best(1)[0].schedule for name, search in found.items()}


def compare(
    setup: ModelSetup,
    name: str,
    settings: MeasuringSettings,
    options: OTCacheOptions,
    pairs: int,
    folder: Path,
    searched: Sequence[int],
    metrics: Sequence[Metric],
) -> list[Row]:
    """Calibrates, and measures on fresh pairs."""
    with LocalPool(lambda: setup, settings, folder / SCRATCH_FOLDER) as pool:
        with Workspace(folder, manifest_of(pool.facts, settings)) as workspace:
            measurements = Measurements(workspace, pool, settings)
            with StageProgress(quiet=False) as progress:
                task = calibration_task(
                    "otcache", options.model_dump(), settings.num_inference_steps
                )
                result = calibrate(task, pool.facts, measurements, progress)
            stored = StoredPolicy(result.document, result.tables, name)
            journal = TrialJournal(workspace.folder / "direct.log")
            policy, graph = policies_of(stored)
            smallest = options.budget_anchor
            budgets = sorted({smallest, *(budget for budget in BUDGETS if budget > smallest)})
            tuned = {
                budget: best_tuned(measurements, graph.edges, budget, settings.metric)
                for budget in budgets
            }
            direct = {
                budget: search_directly(
                    measurements, graph, tuned[budget], settings, options, journal
                )
                for budget in searched
            }
        held_out = [
            Pair(pair.prompt, FRESH_SEEDS + number)
            for number, pair in enumerate(setup.held_out_pairs(pairs))
        ]
        arguments = dict(setup.call_arguments)
        evaluator = Evaluator(setup.pipe, held_out, arguments, settings.batch_size)
        row = partial(compared, evaluator, metrics, name)
        rows = []
        for budget in budgets:
            ours = policy.schedule(budget)
            rows += row("otcache", ours, "best-tuned meancache", tuned[budget])
            for peer, its in direct.get(budget, {}).items():
                rows += row("otcache", ours, peer, its)
        return rows


def compared(
    evaluator: Evaluator,
    metrics: Sequence[Metric],
    model: str,
    name: str,
    ours: Schedule,
    other_name: str,
    other: Schedule,
) -> list[Row]:
    rows = []
    for metric, own, its in zip(
        metrics, evaluator.values(ours, *metrics), evaluator.values(other, *metrics), strict=True
    ):
        found = paired_difference(own, its)
        rows.append(
            Row(
                model,
                ours.budget,
                name,
                other_name,
                metric.name,
                len(own),
                float(own.mean()),
                float(its.mean()),
                found.mean,
                found.low,
                found.high,
                found.win_rate if metric.higher_is_better else 1 - found.win_rate,
                1 - 10 ** (-found.mean / 10) if metric.name == "psnr" else None,
                ours.computed_steps,
                other.computed_steps,
            )
        )
    return rows


def print_rows(rows: Sequence[Row]) -> None:
    table = Table(
        "model", "budget", "to", "metric", "mean", "difference [95 % CI]", "wins", "saved"
    )
    for row in rows:
        digits = 2 if row.metric == "psnr" else 5
        table.add_row(
            row.model,
            str(row.budget),
            row.compared_to,
            row.metric,
            f"{row.mean:.{digits}f}",
            f"{row.difference:+.{digits}f} [{row.low:+.{digits}f}, {row.high:+.{digits}f}]",
            f"{row.win_rate:.0%}",
            "" if row.squared_error_saved is None else f"{row.squared_error_saved:.0%}",
        )
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=["exact-flow", "embedded"])
    parser.add_argument("--anchor", type=int, default=8, help="the anchor's budget")
    parser.add_argument("--pairs", type=int, default=64, help="held-out pairs")
    parser.add_argument("--calibration-pairs", type=int, default=96)
    parser.add_argument("--waypoints", choices=["none"], help="search the anchor only")
    parser.add_argument("--search", choices=["joint", "per-pair"], default="joint")
    parser.add_argument(
        "--direct",
        type=int,
        nargs="*",
        choices=SEARCHED_DIRECTLY,
        default=list(SEARCHED_DIRECTLY),
        help="budgets that are searched directly too",
    )
    parser.add_argument("--only", type=int, help="one setting of the exact flow, by its number")
    parser.add_argument("--work", type=Path, help="keep the measurements there, to go on later")
    parser.add_argument("--output", type=Path)
    add_lpips_option(parser)
    arguments = parser.parse_args()
    metrics = metrics_with(arguments.lpips_home, "latent-l1")
    setups = (
        {flow.revision: partial(flow_setup, flow.revision, flow) for flow in FLOWS}
        if arguments.model == "exact-flow"
        else {"embedded": partial(load_setup, "embedded")}
    )
    if arguments.only is not None:
        name = list(setups)[arguments.only]
        setups = {name: setups[name]}
    settings = MeasuringSettings(pairs=arguments.calibration_pairs)
    options = OTCacheOptions(
        budget_anchor=arguments.anchor,
        waypoints=() if arguments.waypoints else None,
        search=arguments.search,
    )
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, load in setups.items():
            folder = (
                arguments.work or Path(scratch)
            ) / f"{name}-{arguments.search}-{arguments.anchor}"
            found = compare(
                load(), name, settings, options, arguments.pairs, folder, arguments.direct, metrics
            )
            print_rows(found)
            rows += found
            if arguments.output:
                arguments.output.parent.mkdir(parents=True, exist_ok=True)
                data = [asdict(row) for row in rows]
                arguments.output.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
