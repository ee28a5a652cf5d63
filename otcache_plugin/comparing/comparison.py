"""The comparison: one model, three methods, a few budgets, on held-out pairs.

Everything is switched on and off by the calls that a user would make, `cache_dit.enable_cache`
with `policy=` and `cache_dit.disable_cache`, and checked by `otcache_plugin.summary`. Nothing
here prints or writes.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import otcache_plugin
from otcache_plugin.calibration.evidence.peers import policies_of
from otcache_plugin.comparing.results import ComparisonResult, MethodRow
from otcache_plugin.comparing.three_methods import (
    contenders_of,
    enabled,
    find_policy,
    require_installed,
)
from otcache_plugin.comparing.timing import machine, measure_times
from otcache_plugin.errors import ExecutionError
from otcache_plugin.evaluation.outputs import generate_outputs
from otcache_plugin.plugins.costs import StageCost
from otcache_plugin.plugins.host import plugin_host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from diffusers import DiffusionPipeline

    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.comparing.results import ComparisonSettings
    from otcache_plugin.comparing.three_methods import Contender
    from otcache_plugin.comparing.timing import Times
    from otcache_plugin.evaluation.outputs import Outputs
    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.models.setups import ModelSetup

GENERATING = "generating pictures"
TIMING = "timing, methods taking turns"


def compare(
    setup: ModelSetup, settings: ComparisonSettings, progress: CalibrationProgress
) -> ComparisonResult:
    """Measure OTCache beside MeanCache and uniform spacing.

    Args:
        setup: the model, without any cache enabled.
        settings: policy, pairs, budgets, timing.
        progress: is told how far it is.

    Raises:
        DocumentNotFoundError: there is no such policy, or none for this model revision.
        FieldError: the policy is for another model, or `policy=` is switched off.
        BudgetError: the policy does not serve a budget.
        ExecutionError: a run did not compute the planned steps.
    """
    started = perf_counter()
    require_installed()
    stored = find_policy(setup, settings.policy)
    contenders = contenders_of(stored, settings.policy, settings.budgets)
    steps = stored.document.num_inference_steps
    call_arguments = {**setup.call_arguments, "num_inference_steps": steps}
    pairs = setup.held_out_pairs(settings.pairs)

    timed = pairs[: settings.timed_pairs]
    progress.plan(_costs(steps, contenders, len(pairs), settings.rounds, len(timed)))
    full, generated = _generate_all(setup.pipe, contenders, pairs, call_arguments, progress)
    progress.start(TIMING, settings.rounds * (1 + len(contenders)))
    times = measure_times(setup.pipe, contenders, timed, call_arguments, settings.rounds, progress)
    calibration = stored.document.calibration
    return ComparisonResult(
        setup.name,
        settings,
        stored.document,
        stored.source,
        tuple(pairs),
        _pictures(full),
        times.seconds[0],
        _rows(contenders, generated, times, full, pairs),
        policies_of(stored)[0],
        calibration is not None and calibration.prompts_digest == setup.prompts_digest,
        machine(setup.pipe.device),
        perf_counter() - started,
    )


def _costs(
    full_steps: int, contenders: Sequence[Contender], pairs: int, rounds: int, timed: int
) -> tuple[StageCost, StageCost]:
    """Return the cost of both stages."""
    runs = 1 + len(contenders)
    steps = full_steps + sum(each.schedule.budget for each in contenders)
    return (
        StageCost(GENERATING, runs, steps, steps * pairs),
        StageCost(TIMING, rounds * runs, rounds * steps, rounds * steps * timed),
    )


def _generate_all(
    pipe: DiffusionPipeline,
    contenders: Sequence[Contender],
    pairs: Sequence[Pair],
    call_arguments: Mapping[str, Any],
    progress: CalibrationProgress,
) -> tuple[Outputs, list[tuple[Outputs, int]]]:
    """Return the full run's outputs, and each contender's with its transformer calls."""
    progress.start(GENERATING, 1 + len(contenders))
    full = generate_outputs(pipe, pairs, call_arguments)
    progress.advance(call_arguments["num_inference_steps"] * len(pairs))
    generated = []
    for contender in contenders:
        generated.append(_generate(pipe, contender, pairs, call_arguments))
        progress.advance(contender.schedule.budget * len(pairs))
    return full, generated


def _generate(
    pipe: DiffusionPipeline,
    contender: Contender,
    pairs: Sequence[Pair],
    call_arguments: Mapping[str, Any],
) -> tuple[Outputs, int]:
    """Return the outputs and the transformer calls of a run that must have gone as planned."""
    with enabled(pipe, contender.arguments):
        outputs = generate_outputs(pipe, pairs, call_arguments)
        report = otcache_plugin.summary(pipe)
    if not report.as_planned or report.planned_steps != contender.schedule.computed_steps:
        raise ExecutionError(
            f"{contender.method} did not compute its schedule {contender.schedule}: {report}"
        )
    return outputs, report.transformer_calls


def _rows(
    contenders: Sequence[Contender],
    generated: Sequence[tuple[Outputs, int]],
    times: Times,
    full: Outputs,
    pairs: Sequence[Pair],
) -> tuple[MethodRow, ...]:
    psnr, ssim = plugin_host().metric("psnr"), plugin_host().metric("ssim")
    return tuple(
        MethodRow(
            contender.method,
            contender.schedule,
            calls,
            seconds,
            speedup,
            _pictures(outputs),
            psnr.values(outputs, full, pairs),
            ssim.values(outputs, full, pairs),
        )
        for contender, (outputs, calls), seconds, speedup in zip(
            contenders, generated, times.seconds[1:], times.speedups, strict=True
        )
    )


def _pictures(outputs: Outputs) -> torch.Tensor:
    """Return the `(N, 3, H, W)` pictures of an image pipeline."""
    assert outputs.pictures is not None
    return outputs.pictures.squeeze(1)
