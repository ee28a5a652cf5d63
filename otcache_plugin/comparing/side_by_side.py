"""One prompt, or a few, in full, with uniform spacing and with a policy: seconds and pictures.

Everything is switched on and off by the calls that a user would make. Nothing here prints or
writes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from otcache_policies import BudgetError, Schedule

import otcache_plugin
from otcache_plugin.comparing.contenders.policies import (
    UNIFORM,
    evenly_spaced,
    policy_enabled,
    require_installed,
)
from otcache_plugin.comparing.method_row import MethodRow
from otcache_plugin.comparing.timing import Times, machine
from otcache_plugin.enabling.planning import make_plan
from otcache_plugin.enabling.wanted import Wanted
from otcache_plugin.errors import ExecutionError
from otcache_plugin.evaluation.outputs import Outputs, generate_outputs
from otcache_plugin.plugins.costs import StageCost
from otcache_plugin.plugins.host import plugin_host
from otcache_plugin.runs.request import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diffusers import DiffusionPipeline

    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.comparing.settings import SideBySideSettings
    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.models.setups import ModelSetup
    from otcache_plugin.runs.report import RunReport

AHEAD = "a run that is not timed"
TRYING = "in full and with each policy"


@dataclass(frozen=True, eq=False)
class SideBySide:
    """What was found.

    Attributes:
        model: id of the model.
        revision: of its weights.
        settings: what was asked for.
        full_pictures: `(N, 3, H, W)` in [0, 1] with every step computed, a video's middle frame.
        full_seconds: of a run with every step computed, the median over the prompts.
        rows: uniform's, then the policy's where it is another one. Their values are a video's
            means over its frames, their times those of whole calls.
        report: of the last run with the policy.
        frames: of each output, 1 for pictures.
        machine: what the times were measured on.
    """

    model: str
    revision: str
    settings: SideBySideSettings
    full_pictures: torch.Tensor
    full_seconds: float
    rows: tuple[MethodRow, ...]
    report: RunReport
    frames: int
    machine: str

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values, for JSON; the pictures are left out."""
        settings = self.settings
        return {
            "model": self.model,
            "revision": self.revision,
            "policy": self.report.policy,
            "document": self.report.document,
            "notes": list(self.report.notes),
            "num_inference_steps": settings.num_inference_steps,
            "pairs": [{"prompt": pair.prompt, "seed": pair.seed} for pair in settings.pairs],
            "frames": self.frames,
            "full_seconds": self.full_seconds,
            "machine": self.machine,
            "rows": [
                {
                    **row.to_dict(),
                    "psnr_of_each": row.psnr.tolist(),
                    "ssim_of_each": row.ssim.tolist(),
                }
                for row in self.rows
            ],
        }


def require_served(setup: ModelSetup, settings: SideBySideSettings) -> None:
    """Refuse, before anything is run, a policy that has no document or does not serve the budget.

    Raises:
        DocumentNotFoundError: there is none for this model; it says what to do.
        BudgetError: the policy does not serve that share of the steps.
        OTCacheError: whatever else keeps the policy from being enabled.
    """
    origin = setup.origin
    wanted = Wanted(origin.model, origin.revision, call_arguments=setup.call_arguments)
    request = Request(speedup=settings.speedup)
    try:
        plan = make_plan(plugin_host(), setup.pipe, settings.policy, request, wanted)
        plan.budget_for(settings.num_inference_steps)
    except BudgetError as error:
        problem = f"a speed-up of {settings.speedup:g}, and {error.problem}"
        raise BudgetError("budget", settings.budget, problem, error.remedy) from error


def try_side_by_side(
    setup: ModelSetup, settings: SideBySideSettings, progress: CalibrationProgress
) -> SideBySide:
    """Run every prompt in full, with uniform spacing and with the policy, in turns.

    A run with uniform spacing goes ahead and is not timed, so that no time holds what is done only
    once.

    Args:
        setup: the model, without any cache enabled.
        settings: prompts, policy, budget.
        progress: is told how far it is.

    Raises:
        FieldError: `policy=` is switched off.
        OTCacheError: the policy cannot be enabled, or does not serve the budget.
        ExecutionError: a run did not compute what it should.
    """
    require_installed()
    pipe, methods = setup.pipe, _methods(setup, settings)
    call = {**setup.call_arguments, "num_inference_steps": settings.num_inference_steps}
    costs = _costs(settings, len(methods))
    progress.plan(costs)
    progress.start(AHEAD, costs[0].calls)
    _, report = _accelerated(pipe, settings.pairs[0], call, methods[0])
    progress.advance(len(report.computed_steps))
    progress.start(TRYING, costs[1].calls)
    tried = [_try_pair(pipe, pair, call, methods, progress) for pair in settings.pairs]
    times = Times(
        np.array([[full.seconds, *(run.seconds for run in runs)] for full, runs in tried])
    )
    rows = [
        _row([runs[index] for _, runs in tried], times.seconds[1 + index], times.speedups[index])
        for index in range(len(methods))
    ]
    last = tried[-1][1][-1]
    return SideBySide(
        setup.origin.model,
        setup.origin.revision,
        settings,
        torch.stack([full.picture for full, _ in tried]),
        times.seconds[0],
        (replace(rows[0], method=UNIFORM), *rows[1:]),
        last.report,
        last.frames,
        machine(pipe.device),
    )


@dataclass(frozen=True, eq=False)
class _Timed:
    """One call.

    Attributes:
        outputs: of it.
        seconds: that it took.
    """

    outputs: Outputs
    seconds: float

    @property
    def picture(self) -> torch.Tensor:
        """The `(3, H, W)` picture, a video's middle frame."""
        return _middle(self.outputs)


@dataclass(frozen=True, eq=False)
class _Run:
    """A pair with a policy; a video's pictures are dropped but for one.

    Attributes:
        seconds: of the call.
        report: of what was computed.
        picture: `(3, H, W)`, a video's middle frame.
        frames: of the output.
        psnr: to the full run's output, in dB.
        ssim: likewise.
    """

    seconds: float
    report: RunReport
    picture: torch.Tensor
    frames: int
    psnr: float
    ssim: float


def _costs(settings: SideBySideSettings, methods: int) -> tuple[StageCost, StageCost]:
    """Return what both stages take."""
    pairs, budget = len(settings.pairs), settings.budget
    steps = pairs * (settings.num_inference_steps + methods * budget)
    return (
        StageCost(AHEAD, 1, budget, budget),
        StageCost(TRYING, pairs * (1 + methods), steps, steps),
    )


def _methods(setup: ModelSetup, settings: SideBySideSettings) -> list[dict[str, Any]]:
    """Return the arguments of `cache_dit.enable_cache` for uniform spacing and for the policy."""
    schedule = evenly_spaced(setup.pipe, settings.num_inference_steps, settings.budget)
    uniform = {"policy": schedule}
    if settings.policy == UNIFORM:
        return [uniform]
    origin = {"model": setup.origin.model, "revision": setup.origin.revision}
    return [uniform, {"policy": settings.policy, "speedup": settings.speedup, **origin}]


def _try_pair(
    pipe: DiffusionPipeline,
    pair: Pair,
    call: Mapping[str, Any],
    methods: Sequence[Mapping[str, Any]],
    progress: CalibrationProgress,
) -> tuple[_Timed, list[_Run]]:
    """Run a pair in full, then with every method."""
    full = _timed(pipe, pair, call)
    progress.advance(call["num_inference_steps"])
    runs = []
    for arguments in methods:
        run, report = _accelerated(pipe, pair, call, arguments)
        psnr, ssim = (
            float(plugin_host().metric(name).values(run.outputs, full.outputs, [pair])[0])
            for name in ("psnr", "ssim")
        )
        assert run.outputs.pictures is not None
        frames = run.outputs.pictures.shape[1]
        runs.append(_Run(run.seconds, report, run.picture, frames, psnr, ssim))
        progress.advance(len(report.computed_steps))
    return full, runs


def _timed(pipe: DiffusionPipeline, pair: Pair, call: Mapping[str, Any]) -> _Timed:
    started = perf_counter()
    outputs = generate_outputs(pipe, [pair], call)  # On the CPU, so the device has finished.
    return _Timed(outputs, perf_counter() - started)


def _accelerated(
    pipe: DiffusionPipeline, pair: Pair, call: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[_Timed, RunReport]:
    """Return a run that must have gone as planned."""
    with policy_enabled(pipe, arguments):
        run = _timed(pipe, pair, call)
        report = otcache_plugin.summary(pipe)
    if not report.as_planned:
        raise ExecutionError(f"a run did not compute its steps: {report}")
    return run, report


def _middle(outputs: Outputs) -> torch.Tensor:
    assert outputs.pictures is not None
    frames = outputs.pictures[0]
    return frames[len(frames) // 2].clone()


def _row(runs: Sequence[_Run], seconds: float, speedup: float) -> MethodRow:
    report = runs[-1].report
    return MethodRow(
        report.policy,
        Schedule(report.computed_steps, report.num_inference_steps, report.look_backs),
        report.transformer_calls,
        seconds,
        speedup,
        torch.stack([run.picture for run in runs]),
        np.array([run.psnr for run in runs]),
        np.array([run.ssim for run in runs]),
    )
