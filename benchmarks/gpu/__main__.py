"""The command: which rows there are, in the order of their worth."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from otcache_plugin.cli.common.output import silence_loading

from . import __doc__ as about
from . import contenders
from .bench import STEPS, Bench, Contender, nothing
from .embedded import Embedded, small_options, small_settings
from .journal import Journal
from .machine import machine_facts
from .machinery import log_memory, step_costs, synchronizations
from .models import MODELS

BUDGETS = (20, 15, 13, 12, 10, 8)
ROUNDS = 3
ROUNDS_SHARE = 0.32
"""Rounds after the first begin only before this share of the time is over."""

SCALED_STEPS = 10
"""Of HunyuanVideo's full run when time is short."""

LATER_SECONDS = 80.0
"""Kept for Qwen-Image when compilation and offloading, which may take long, come up."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=about)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--toy", action="store_true", help="toy sizes, on the CPU by default")
    parser.add_argument("--models", default="flux,qwen,hunyuan", help="names with commas between")
    parser.add_argument("--seconds", type=float, default=500.0, help="after which nothing is begun")
    parser.add_argument("--device", help="where; the GPU by default, the CPU for toys")
    parser.add_argument("--commit", help="of this project, for the JSON")
    arguments = parser.parse_args()
    names = arguments.models.split(",")
    if unknown := set(names) - set(MODELS):
        parser.error(f"no such models: {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    # Nothing here needs the Hub, and a machine without network should not wait for it.
    os.environ.setdefault("OTCACHE_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    silence_loading()
    device = torch.device(arguments.device or ("cpu" if arguments.toy else "cuda"))
    facts = {"toy": arguments.toy, "steps": STEPS, **machine_facts(device, arguments.commit)}
    journal = Journal(arguments.output, facts, arguments.seconds)
    stages = {"flux": flux_and_embedded, "qwen": qwen, "hunyuan": hunyuan}
    for name in names:
        bench = Bench(MODELS[name](arguments.toy), device, journal)
        journal.guard(f"{name}/stage", partial(stages[name], bench, arguments.toy))
        journal.guard(f"{name}/close", bench.close)
    for name, ratios in journal.speedups().items():
        print(f"{name}: " + ", ".join(f"{what} {ratio:.2f}x" for what, ratio in ratios.items()))
    failures = journal.failures()
    print(f"{journal.elapsed:.0f} s; failed rows: {', '.join(failures) or 'none'}", flush=True)


def flux_and_embedded(bench: Bench, toy: bool) -> None:
    """Measure FLUX, whose rows are the most, and the embedded model in between."""
    journal = bench.journal
    if bench.build(estimate=20.0):
        journal.guard("flux/rows", partial(flux, bench))
    embedded = Embedded(
        bench.device, 1 if toy else 8, small_settings(toy=toy), small_options(toy=toy)
    )
    journal.guard("embedded/rows", partial(embedded.measure, journal))
    if bench.seconds_per_step:
        journal.guard("flux/compiled rows", partial(compiled, bench, toy))
        journal.guard("flux/offloaded rows", partial(offloaded, bench))


def flux(bench: Bench) -> None:
    """Measure budgets in turn with the full run, then what there is to compare with."""
    in_turn = [contenders.full(), *map(contenders.policy, BUDGETS)]
    for contender in in_turn:
        bench.row(contender)
    bench.row(contenders.policy(10, "blocks"))
    bench.row(contenders.steps_mask(10, STEPS))
    bench.row(contenders.dbcache())
    machinery(bench)
    for _ in range(ROUNDS - 1):
        for contender in in_turn:
            if bench.journal.share < ROUNDS_SHARE:
                bench.row(contender)


def machinery(bench: Bench) -> None:
    """Measure what the plugin costs beside the model."""
    journal, model = bench.journal, bench.model
    estimate = 24 * bench.seconds_per_step + 2.0
    journal.attempt(
        "flux/cost of a step",
        model.about("milliseconds by device events, medians", steps=16, budget=6),
        lambda: step_costs(bench, budget=6, steps=16),
        estimate=estimate,
    )
    journal.attempt(
        "flux/memory of the log",
        model.about("peak memory of a run by the policy beyond an untouched one", steps=10),
        lambda: log_memory(bench, budget=3, steps=10),
        estimate=estimate,
    )
    about = model.about("operations in the loop that wait for the device", steps=8, budget=4)
    if bench.device.type == "cuda":
        journal.attempt(
            "flux/synchronisations",
            about,
            lambda: synchronizations(bench, budget=4, steps=8),
            estimate=estimate,
        )
    else:
        journal.skip("flux/synchronisations", about, "only CUDA counts them")


def compiled(bench: Bench, toy: bool) -> None:
    """Measure with the repeated blocks compiled."""
    options = {"backend": "eager"} if toy else {}
    transformer = bench.pipe.transformer
    first = Contender(
        "compiled, first run",
        "compile_repeated_blocks, compilation included",
        enable=lambda _: transformer.compile_repeated_blocks(**options),
    )
    try:
        if bench.row(first, steps=3, extra=0.0 if toy else 60.0 + LATER_SECONDS):
            bench.row(replace(contenders.full(), name="compiled full"))
            bench.row(replace(contenders.policy(10), name="compiled velocity 10"))
    finally:
        for module in transformer.modules():
            module._compiled_call_impl = None


def offloaded(bench: Bench) -> None:
    """Measure two calls by a policy with the models on the CPU between calls."""
    ten = contenders.policy(10)
    name = "offloaded velocity 10"

    def enable(pipe: Any) -> None:
        pipe.enable_model_cpu_offload()
        ten.enable(pipe)

    # What the first call leaves in place is what the second one meets.
    first = replace(ten, name=f"{name}, first call", enable=enable, disable=nothing)
    second = replace(ten, name=f"{name}, second call", enable=nothing)
    for contender, extra in ((first, 45.0), (second, 45.0)):
        if bench.device.type == "cuda":
            bench.row(contender, extra=extra + LATER_SECONDS)
        else:
            about = bench.model.about(contender.what)
            bench.journal.skip(f"flux/{contender.name}", about, "needs an accelerator")
    bench.pipe.remove_all_hooks()


def qwen(bench: Bench, toy: bool) -> None:
    """Measure Qwen-Image."""
    if bench.build(estimate=25.0):
        for contender in (contenders.full(), contenders.policy(10), contenders.policy(15)):
            bench.row(contender)


def hunyuan(bench: Bench, toy: bool) -> None:
    """Measure HunyuanVideo, its full run in fewer steps unless there is time for all."""
    bench.decode = False
    if not bench.build(estimate=30.0):
        return
    all_seconds = (STEPS + 10 + 12) * bench.seconds_per_step + 25.0
    steps = STEPS if all_seconds < bench.journal.remaining else SCALED_STEPS
    what = f"untouched pipeline in {steps} steps; ratios to it go by its seconds per step"
    bench.row(replace(contenders.full(), what=what), steps=steps)
    bench.row(contenders.policy(10))
    bench.row(contenders.policy(12))
    about = bench.model.about("tiled decoding of one video, which the other rows leave out")
    bench.journal.attempt("hunyuan/decode", about, partial(decoding, bench), estimate=20.0)


def decoding(bench: Bench) -> dict[str, float]:
    """Measure what a call of two steps takes outside of its loop."""
    run = bench.run(2, decode=True)
    return {"decode_seconds": run.call_seconds - run.loop_seconds}


if __name__ == "__main__":
    main()
