"""Which schedule is best at the same budget? Held-out pairs, paired 95 % confidence intervals.

    python -m benchmarks.schedules exact-flow --pairs 64 --output benchmarks/results/exact-flow.json
    python -m benchmarks.schedules embedded --pairs 64 --policy DIR

Runs fewer true steps, uniform, MeanCache and OTCache from one policy document on the same executor,
on prompts and seeds that no calibration has seen (seeds differ from those of the document's own
evidence), and prints every mean with its standard error and every paired difference with its
interval. Uniform and MeanCache have the look-back rule that was tuned for MeanCache. PSNR and SSIM,
and LPIPS (AlexNet, VGG16) with `--lpips-home`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from otcache_policies import Schedule
from otcache_registry import EvidenceRow, StoredPolicy, find_bundled, read_policy
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.metrics import add_lpips_option, metrics_with
from otcache_plugin.calibration.evidence.peers import peers, policies_of
from otcache_plugin.calibration.evidence.rows import FEWER_STEPS, evidence_rows, evidence_runs
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.metrics import Metric
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.models.setups import HELD_OUT_SEEDS, SETUPS, ModelSetup, load_setup

FRESH_SEEDS = 10 * HELD_OUT_SEEDS
"""First seed of the pairs; none from here on was looked at while anything was still chosen."""
BUDGETS = (8, 10, 12, 15, 20)


@dataclass(frozen=True)
class Comparison:
    """What was compared, and every figure."""

    model: str
    revision: str | None
    policy: str
    pairs: int
    first_seed: int
    rows: tuple[EvidenceRow, ...]
    schedules: dict[str, dict[int, tuple[int, ...]]]

    def to_json(self) -> str:
        data = asdict(self) | {"rows": [row.model_dump() for row in self.rows]}
        return json.dumps(data, indent=1) + "\n"


def compare(
    setup: ModelSetup,
    stored: StoredPolicy,
    metrics: Sequence[Metric],
    pairs: int,
    budgets: Sequence[int],
) -> Comparison:
    otcache, meancache = policies_of(stored)
    arguments = {**setup.call_arguments, "num_inference_steps": otcache.num_inference_steps}
    held_out = [
        Pair(pair.prompt, FRESH_SEEDS + number)
        for number, pair in enumerate(setup.held_out_pairs(pairs))
    ]
    evaluator = Evaluator(setup.pipe, held_out, arguments)
    served = [budget for budget in budgets if budget in otcache.budgets]
    compared = peers(otcache, meancache)
    measured = evidence_runs({FEWER_STEPS: Schedule.full, **compared}, served)
    values = {}
    for key, schedule in track(measured.items(), "schedules", console=Console(stderr=True)):
        found = evaluator.values(schedule, *metrics)
        values[key] = {metric.name: each for metric, each in zip(metrics, found, strict=True)}
    rows = evidence_rows(values, metrics)
    schedules = {
        name: {budget: schedule(budget).computed_steps for budget in served}
        for name, schedule in compared.items()
    }
    model = stored.document.model
    return Comparison(model.id, model.revision, stored.source, pairs, FRESH_SEEDS, rows, schedules)


def print_table(comparison: Comparison) -> None:
    table = Table(
        "budget",
        "policy",
        "metric",
        "mean ± SE",
        "to",
        "paired difference [95 % CI]",
        "wins",
        title=f"{comparison.model}, {comparison.pairs} held-out pairs, {comparison.policy}",
    )
    for row in comparison.rows:
        digits = 2 if row.metric == "psnr" else 4
        mean = f"{row.mean:.{digits}f} ± {row.standard_error:.{digits}f}"
        cells = [str(row.budget), row.policy, row.metric, mean]
        if row.compared_to is not None:
            interval = f"[{row.difference_low:+.{digits}f}, {row.difference_high:+.{digits}f}]"
            cells += [
                row.compared_to,
                f"{row.difference_mean:+.{digits}f} {interval}",
                f"{row.win_rate:.0%}",
            ]
        table.add_row(*cells)
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=list(SETUPS))
    parser.add_argument("--policy", type=Path, help="a document's folder; default: the bundled one")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    add_lpips_option(parser)
    arguments = parser.parse_args()
    metrics = metrics_with(arguments.lpips_home)
    setup = load_setup(arguments.model)
    if arguments.policy:
        stored = read_policy(arguments.policy)
    else:
        stored = find_bundled("otcache", setup.origin.model, setup.origin.revision)
    comparison = compare(setup, stored, metrics, arguments.pairs, arguments.budgets)
    print_table(comparison)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(comparison.to_json())


if __name__ == "__main__":
    main()
