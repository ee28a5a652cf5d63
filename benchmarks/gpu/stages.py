"""The stages: which rows there are, by what they are measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import cache_dit
import torch

from . import contenders, models, sameness
from .bench import STEPS, Bench, Contender, nothing
from .embedded import Embedded, lpips_settings, small_options, small_settings
from .machinery import log_memory, step_costs, synchronizations
from .recording import recording

if TYPE_CHECKING:
    from .journal import Journal
    from .models import Model

BUDGETS = (20, 15, 13, 12, 10, 8)
ROUNDS = 3
ROUNDS_SHARE = 0.32
"""Rounds after the first begin only before this share of the time is over."""

SCALED_STEPS = 10
"""Of a video's full run when time is short."""

LATER_SECONDS = 80.0
"""Kept for what comes later when compilation and offloading, which may take long, come up."""


def flux(bench: Bench, toy: bool) -> None:
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
    options = {"fullgraph": True, **({"backend": "eager"} if toy else {})}
    transformer = bench.pipe.transformer
    first = Contender(
        "compiled, first run",
        "compile_repeated_blocks(fullgraph=True), compilation included",
        enable=lambda _: transformer.compile_repeated_blocks(**options),
    )
    try:
        if bench.row(first, steps=3, extra=0.0 if toy else 60.0 + LATER_SECONDS):
            bench.row(replace(contenders.full(), name="compiled full"))
            bench.row(replace(contenders.policy(10), name="compiled velocity 10"))
    finally:
        for module in transformer.modules():
            module._compiled_call_impl = None


def offloaded(bench: Bench, toy: bool) -> None:
    """Measure calls by a policy with the models on the CPU between calls, enabled before or after.

    Each call begins with what the one before has left in place, offloading's own hooks too.
    """
    ten = contenders.policy(10)

    def offload_then_enable(pipe: Any) -> None:
        pipe.enable_model_cpu_offload()
        ten.enable(pipe)

    def enable_then_offload(pipe: Any) -> None:
        cache_dit.disable_cache(pipe)
        pipe.remove_all_hooks()
        ten.enable(pipe)
        pipe.enable_model_cpu_offload()

    rows = (
        ("offloaded velocity 10, first call", offload_then_enable),
        ("offloaded velocity 10, second call", nothing),
        ("offloaded velocity 10, enabled before offloading", enable_then_offload),
    )
    for name, enable in rows:
        contender = replace(ten, name=name, enable=enable, disable=nothing)
        if bench.device.type == "cuda":
            bench.row(contender, extra=45.0)
        else:
            about = bench.model.about(contender.what)
            bench.journal.skip(f"flux/{name}", about, "needs an accelerator")
    cache_dit.disable_cache(bench.pipe)
    bench.pipe.remove_all_hooks()


def qwen(bench: Bench, toy: bool) -> None:
    """Measure Qwen-Image."""
    for contender in (contenders.full(), contenders.policy(10), contenders.policy(15)):
        bench.row(contender)


def video(bench: Bench, toy: bool) -> None:
    """Measure HunyuanVideo, its full run in fewer steps unless there is time for all."""
    all_seconds = (STEPS + 10 + 12) * bench.seconds_per_step + 3 * bench.seconds_around
    steps = STEPS if all_seconds < bench.journal.remaining else SCALED_STEPS
    what = f"untouched pipeline in {steps} steps; ratios to it go by its seconds per step"
    bench.row(replace(contenders.full(), what=what), steps=steps)
    bench.row(contenders.policy(10))
    bench.row(contenders.policy(12))


def large_video(bench: Bench, toy: bool) -> None:
    """Measure HunyuanVideo at 720p in few steps."""
    what = f"untouched pipeline in {SCALED_STEPS} steps; ratios to it go by its seconds per step"
    bench.row(replace(contenders.full(), what=what), steps=SCALED_STEPS)
    bench.row(contenders.policy(10))


PROBED = ("teacache", "dicache 1", "dicache 2", "dicache 3")


def probed(bench: Bench, toy: bool) -> None:
    """Measure what a step costs that is cached, and one that is computed, where a probe decides."""
    for name in PROBED:
        bench.row(contenders.probed(name, 2, STEPS))
    for name in PROBED[:2]:
        bench.row(contenders.probed(name, STEPS, STEPS))


def same(bench: Bench, toy: bool) -> None:
    """Compare latents by a document with those of the policy `uniform`, however they are run.

    The last way can't be undone, so the pipeline is built again for stages that follow.
    """
    within = sameness.within
    ways = {
        "document": (
            "by a document, whose weights are watched",
            within(lambda _: nullcontext()),
        ),
        "stream of its own": (
            "by a document, on a stream that isn't the default",
            within(_own_stream),
        ),
        "two threads": (
            "two pipelines of the same weights, in threads of their own",
            sameness.Sameness.of_threads,
        ),
        "offloaded": ("by a document, the models on the CPU between calls", within(_offloaded)),
        "grouped": (
            "by a document, layers brought to the device by a stream ahead",
            within(_grouped),
        ),
    }
    if bench.device.type != "cuda":
        for name in [each for each in ways if each != "document"]:
            what, _ = ways.pop(name)
            about = bench.model.about(what)
            bench.journal.skip(f"flux/same latents, {name}", about, "needs an accelerator")
    bench.pipe.to(bench.device)  # Offloading may have left it elsewhere.
    sameness.measure(bench, ways)
    bench.close()


def _own_stream(pipe: Any) -> Any:
    return torch.cuda.stream(torch.cuda.Stream(pipe.device))


@contextmanager
def _offloaded(pipe: Any) -> Iterator[None]:
    device = pipe.device
    pipe.enable_model_cpu_offload()
    try:
        yield
    finally:
        pipe.remove_all_hooks()
        pipe.to(device)


@contextmanager
def _grouped(pipe: Any) -> Iterator[None]:
    pipe.transformer.enable_group_offload(
        onload_device=pipe.device, offload_type="leaf_level", use_stream=True
    )
    yield


def recorded(bench: Bench, toy: bool) -> None:
    """Measure what a pair's recording takes."""
    steps = 4 if toy else STEPS
    bench.journal.attempt(
        "flux/recording of a pair",
        bench.model.about("a pair's run and its recording, which decodes a dozen pictures more"),
        partial(recording, bench, steps),
        estimate=3 * steps * bench.seconds_per_step + 15.0,
    )


def embedded(device: torch.device, journal: Journal, toy: bool) -> None:
    """Measure the embedded model."""
    Embedded(
        device,
        1 if toy else 8,
        small_settings(toy=toy),
        small_options(toy=toy),
        lpips_settings(toy=toy),
    ).measure(journal)


@dataclass(frozen=True)
class Stage:
    """Rows that are measured on one pipeline.

    Attributes:
        model: what builds it; stages of the same one, one after the other, share it.
        measure: the rows.
        build_seconds: that building takes, and a first run of a few steps.
    """

    model: Callable[[bool], Model]
    measure: Callable[[Bench, bool], None]
    build_seconds: float


STAGES = {
    "flux": Stage(models.flux, flux, 20.0),
    "probed": Stage(models.flux, probed, 20.0),
    "same": Stage(models.flux, same, 20.0),
    "recording": Stage(models.flux, recorded, 20.0),
    "compiled": Stage(models.flux, compiled, 20.0),
    "offloaded": Stage(models.flux, offloaded, 20.0),
    "qwen": Stage(models.qwen, qwen, 25.0),
    "hunyuan": Stage(models.hunyuan, video, 30.0),
    "hunyuan-720p": Stage(models.hunyuan_720p, large_video, 60.0),
}
"""By name; the embedded model's stage is its own."""
