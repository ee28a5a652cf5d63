"""The command: which stages are gone through, in the order of their worth."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

import torch

from otcache_plugin.cli.common.output import silence_loading

from . import __doc__ as about
from .bench import STEPS, Bench
from .journal import Journal
from .machine import machine_facts
from .stages import STAGES, embedded

EMBEDDED = "embedded"
ALL = "flux,probed,embedded,recording,compiled,offloaded,same,qwen,hunyuan,hunyuan-720p"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=about)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--toy", action="store_true", help="toy sizes, on the CPU by default")
    parser.add_argument("--stages", default=ALL, help=f"with commas between, of {ALL}")
    parser.add_argument("--onto", type=Path, help="an earlier JSON, whose other rows are kept")
    parser.add_argument("--seconds", type=float, default=500.0, help="after which nothing is begun")
    parser.add_argument("--device", help="where; the GPU by default, the CPU for toys")
    parser.add_argument("--commit", help="of this project, for the JSON")
    arguments = parser.parse_args()
    names = arguments.stages.split(",")
    if unknown := set(names) - {*STAGES, EMBEDDED}:
        parser.error(f"no such stages: {', '.join(sorted(unknown))}; there are {ALL}")
    # Nothing here needs the Hub, and a machine without network should not wait for it.
    os.environ.setdefault("OTCACHE_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    silence_loading()
    device = torch.device(arguments.device or ("cpu" if arguments.toy else "cuda"))
    facts = {"toy": arguments.toy, "steps": STEPS, **machine_facts(device, arguments.commit)}
    journal = Journal(arguments.output, facts, arguments.seconds)
    if arguments.onto is not None:
        journal.keep_rows_of(arguments.onto)
    go_through(names, journal, device, toy=arguments.toy)
    for name, ratios in journal.speedups().items():
        print(f"{name}: " + ", ".join(f"{what} {ratio:.2f}x" for what, ratio in ratios.items()))
    failures = journal.failures()
    print(f"{journal.elapsed:.0f} s; failed rows: {', '.join(failures) or 'none'}", flush=True)


def go_through(names: list[str], journal: Journal, device: torch.device, *, toy: bool) -> None:
    """Go through stages, each model built once for those that follow each other."""
    bench: Bench | None = None
    for name in names:
        if name == EMBEDDED:
            journal.guard(f"{name}/stage", partial(embedded, device, journal, toy))
            continue
        stage = STAGES[name]
        model = stage.model(toy)
        if bench is None or bench.pipe is None or bench.model.name != model.name:
            if bench is not None:
                journal.guard(f"{bench.model.name}/close", bench.close)
            bench = Bench(model, device, journal)
            bench.build(estimate=stage.build_seconds)
        if bench.seconds_per_step:
            journal.guard(f"{name}/stage", partial(stage.measure, bench, toy))
    if bench is not None:
        journal.guard(f"{bench.model.name}/close", bench.close)


if __name__ == "__main__":
    main()
