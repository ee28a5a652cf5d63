"""What does a race's last heat add? Its winners with and without it, on held-out pairs.

    python -m benchmarks.last_heat embedded flow-1 --work DIR --output FILE
    python -m benchmarks.last_heat --draw 779 --flows 8 --held-out 128 --work DIR --output FILE

The race of a standard calibration is run three times on the same measurements: as if no steps were
left for the last heat, with it as it is, and with another one that was tried, rounds of newcomers
by a surrogate (`benchmarks/rounds`). What they serve at every budget runs on the same held-out
pairs; differences are paired, and marked where they are significant after Holm's correction for
the budgets.

`--draw` draws flows by a seed, besides those that choices were made on and by which they can no
longer be judged: whatever is there is the best of many that were tried on them. Whoever tries
something draws by a seed that nobody has drawn by.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.efforts import BUDGETS, PROCEDURES, STEPS, Bench, context_of
from benchmarks.models import DEVELOPMENT, FINAL, SEED, draw_flows, flow_setup
from benchmarks.options import add_held_out_option, require_known
from benchmarks.rounds.last_heat import RoundsByASurrogate
from benchmarks.rows import cell, keep, rows_of
from otcache_plugin.calibration.context import MeasuredContext
from otcache_plugin.calibration.procedures.standard import recorded_for
from otcache_plugin.calibration.racing.last_heat import LastHeat
from otcache_plugin.calibration.racing.plan import RacePlan
from otcache_plugin.calibration.racing.race import Race
from otcache_plugin.evaluation.metrics import METRICS
from otcache_plugin.models.setups import ModelSetup

PAIRS = PROCEDURES["standard"].pairs


@dataclass(frozen=True)
class WithoutLastHeat(RacePlan):
    """A race that ends with its finals."""

    def left(self, spent: int) -> int:
        return 0


RACES: dict[str, tuple[type[RacePlan], type[LastHeat]]] = {
    "without": (WithoutLastHeat, LastHeat),
    "by gains": (RacePlan, LastHeat),
    "by a surrogate": (RacePlan, RoundsByASurrogate),
}
COMPARED = (("by gains", "without"), ("by a surrogate", "without"), ("by a surrogate", "by gains"))


def race_of(name: str, context: MeasuredContext) -> Race:
    """Return a race by name."""
    plan_type, last_heat = RACES[name]
    plan = plan_type(STEPS, PAIRS, range(BUDGETS[0], BUDGETS[-1] + 1))
    return Race(plan, recorded_for(plan, context), context, last_heat)


def bench(setup: ModelSetup, work: Path, held_out: int) -> dict[str, Any]:
    """Return what one model's winners gain by the last heat."""
    model = Bench(setup, work)
    schedules, steps = {}, {}
    for name in RACES:
        with model.measured(PAIRS) as (measurements, pool):
            claimed = f"last heat {name}".replace(" ", "-")
            context = context_of(measurements, pool, "otcache", claimed, {})
            winners, _ = race_of(name, context).run()
            schedules[name] = {at: each.candidate.schedule for at, each in winners.items()}
            steps[name] = context.denoising_steps
    measure, metric = model.held_out(held_out), METRICS["psnr"]
    distinct = {each for own in schedules.values() for each in own.values()}
    known = {schedule: measure(schedule, [metric]) for schedule in distinct}
    values = {
        (name, budget): known[schedule]
        for name, own in schedules.items()
        for budget, schedule in own.items()
    }
    compared = {}
    for name, other in COMPARED:
        compared[f"{name} − {other}"] = rows = rows_of(values, name, other, metric.name)
        for row in rows:
            row["changed"] = schedules[name][row["budget"]] != schedules[other][row["budget"]]
    return {"model": setup.name, "held_out_pairs": held_out, "steps": steps, "compared": compared}


def drawn(seed: int, count: int) -> dict[str, Callable[[], ModelSetup]]:
    """Return loaders of flows that are drawn by a seed, by name."""
    flows = {f"drawn-{seed}-{at}": each for at, each in enumerate(draw_flows(count, seed), start=1)}
    return {name: partial(flow_setup, name, flow) for name, flow in flows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    models = {**DEVELOPMENT, **FINAL}
    parser.add_argument("models", nargs="*", help=", ".join(models))
    parser.add_argument("--draw", type=int, metavar="SEED", help="draw flows, too, by this seed")
    parser.add_argument("--flows", type=int, default=8, help="how many are drawn")
    add_held_out_option(parser)
    parser.add_argument("--work", type=Path, required=True, help="folder of all measurements")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    arguments = parser.parse_args()
    require_known(parser, "models", arguments.models, models)
    if arguments.draw == SEED:
        parser.error(f"--draw: {SEED} drew flow-1 … flow-8, which are not new")
    if not arguments.models and arguments.draw is None:
        parser.error("name models, or --draw flows")
    chosen = {name: models[name] for name in arguments.models}
    if arguments.draw is not None:
        chosen |= drawn(arguments.draw, arguments.flows)
    for name, load in chosen.items():
        result = bench(load(), arguments.work / name, arguments.held_out)
        keep(arguments.output, name, result)
        table = Table(name, *map(str, BUDGETS))
        for compared, rows in result["compared"].items():
            table.add_row(compared, *map(cell, rows))
        Console(width=260).print(table, result["steps"])


if __name__ == "__main__":
    main()
