"""How much of the limit T / B does a call reach? Ratios, measured in one run.

    python -m benchmarks.speed --output benchmarks/results/speed.json

Times whole calls of the embedded pipeline, decoding included, full and cached runs in turn, and
prints the median ratio with its spread. The velocity executor's own cost is what keeps it from
T / B; on this tiny model, whose transformer call takes milliseconds, that cost weighs far more than
on a real one.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from rich.console import Console
from rich.table import Table

from otcache_plugin.enabling.enable import disable_cache, enable_cache
from otcache_plugin.evaluation.outputs import generate
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.models.setups import load_setup

BUDGETS = (8, 10, 15, 20)


def seconds(pipe: DiffusionPipeline, pairs: list[Pair], steps: int) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    generate(pipe, pairs, {"num_inference_steps": steps}, batch_size=len(pairs))
    return time.perf_counter() - start


def measure(batch: int, repeats: int, steps: int) -> dict[str, Any]:
    setup = load_setup("embedded")
    pairs = setup.held_out_pairs(batch)
    seconds(setup.pipe, pairs, steps)  # warm-up
    ratios: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    for _ in range(repeats):
        for budget in BUDGETS:
            full = seconds(setup.pipe, pairs, steps)
            enable_cache(setup.pipe, policy="otcache", budget=budget)
            cached = seconds(setup.pipe, pairs, steps)
            disable_cache(setup.pipe)
            ratios[budget].append(full / cached)
    return {
        "model": "embedded",
        "batch": batch,
        "repeats": repeats,
        "steps": steps,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "speedup": {
            str(budget): {
                "median": statistics.median(values),
                "low": min(values),
                "high": max(values),
                "limit": steps / budget,
            }
            for budget, values in ratios.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(arguments.batch, arguments.repeats, arguments.steps)
    table = Table("budget", "speed-up, median [range]", "limit T / B")
    for budget, row in figures["speedup"].items():
        spread = f"{row['median']:.2f}x [{row['low']:.2f}, {row['high']:.2f}]"
        table.add_row(budget, spread, f"{row['limit']:.2f}x")
    Console().print(table)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
