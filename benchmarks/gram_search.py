"""How near to the lowest value does the search over Gram matrices come, and how long does it take?

    otcache calibrate embedded --policy gram --output DIR
    python -m benchmarks.gram_search DIR --json benchmarks/results/gram-search.json

For every budget and damping the quadratic form of a document is minimised, and so many times more
from random schedules: the steps of each are moved to where no move helps, all pairs weighed by what
the first search found. Printed are the search's value over the lowest of those, as a factor of the
mean squared error (1 where nothing better was found, below 1 where the descents stay behind), and
the processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from otcache_policies import GramPolicy, GramTable, Schedule
from otcache_policies.displacement import Candidates
from otcache_policies.gram_search import optimise
from otcache_policies.quadratic_form import QuadraticForm
from otcache_policies.state_form import StateForm
from otcache_policies.step_moves import descend
from otcache_registry import read_policy
from rich.console import Console
from rich.progress import track
from rich.table import Table

from otcache_plugin.plugins.host import plugin_host

BUDGETS = (6, 8, 10, 12, 15, 20, 25)
DAMPINGS = (0.0, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class Row:
    """One search, against descents from random schedules."""

    damping: float
    budget: int
    value_ratio: float
    seconds: float
    descents_seconds: float


def measure(table: GramTable, budget: int, damping: float, descents: int) -> Row:
    """Search once, and from as many random schedules as asked for."""
    form, largest = table.form(damping), GramPolicy(table).settings.max_look_back
    begun = time.process_time()
    found = optimise(form, budget, largest)
    seconds = time.process_time() - begun
    values = form.values(Candidates.of([found]))[0]
    states = StateForm.of(form.weighted(1 / values), largest)
    begun = time.process_time()
    others = [descend(states, start) for start in random_schedules(form, budget, descents)]
    rest = time.process_time() - begun
    lowest = form.pooled(Candidates.of(others)).min()
    return Row(damping, budget, float(np.exp(np.log(values).mean() - lowest)), seconds, rest)


def random_schedules(form: QuadraticForm, budget: int, count: int) -> list[Schedule]:
    """Return schedules with random steps, and look-backs of 1 to 3."""
    rng, total = np.random.default_rng(0), form.num_inference_steps
    found = []
    for _ in range(count):
        inner = rng.choice(np.arange(1, total - 1), budget - 2, replace=False)
        steps = [0, *sorted(inner.tolist()), total - 1]
        found.append(Schedule(steps, total, rng.integers(1, 4, budget - 1).tolist()))
    return found


def show(rows: list[Row], console: Console) -> None:
    table = Table("damping", "budget", "value / lowest", "seconds", "descents' seconds")
    for row in rows:
        table.add_row(
            f"{row.damping:g}",
            str(row.budget),
            f"{row.value_ratio:.4f}",
            f"{row.seconds:.3f}",
            f"{row.descents_seconds:.1f}",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("document", type=Path, help="of the policy gram")
    parser.add_argument("--descents", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    policy = plugin_host().policy_of(read_policy(options.document))
    assert isinstance(policy, GramPolicy), "a document of the policy gram is needed"
    cases = [(budget, damping) for damping in DAMPINGS for budget in BUDGETS]
    console = Console(stderr=True)
    rows = [
        measure(policy.table, *case, options.descents)
        for case in track(cases, "searching", console=console)
    ]
    show(rows, Console())
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
