"""What a calibration costs, before it is begun: by the formula, and by a measured step."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import torch

from otcache_plugin.calibration.evidence import EVIDENCE_OF
from otcache_plugin.calibration.tuning import POOL_SIZE, RHOS, edge_settings, tuning_budgets
from otcache_plugin.calibration.worker import count_transformer_calls
from otcache_plugin.evaluation.outputs import generate_outputs

if TYPE_CHECKING:
    from otcache_plugin.calibration.settings import CalibrationSettings
    from otcache_plugin.models.setups import ModelSetup

PROBE_STEPS = (2, 4)
"""Inference steps of the two calls that a step's time is measured by."""


@dataclass(frozen=True)
class StageCost:
    """One stage at most: identical schedules are run once, hopeless trials not to the end.

    Attributes:
        stage: what it is.
        runs: pipeline calls for one pair each.
        steps: denoising steps computed in them.
    """

    stage: str
    runs: int
    steps: int


def stage_costs(settings: CalibrationSettings, max_look_back: int) -> tuple[StageCost, ...]:
    """Upper bounds of each stage, in runs and steps of single pairs."""
    anchor, search = settings.budget_anchor, settings.anchor
    budgets = tuning_budgets(anchor, settings.budget_reference)
    pairs, held_out = settings.pairs, settings.held_out_pairs
    family = sum(budgets)

    def of_schedules(stage: str, count: int, steps: int, on: int) -> StageCost:
        return StageCost(stage, count * on, steps * on)

    policies = len(edge_settings(max_look_back))
    tried = 2 * len(RHOS) + POOL_SIZE
    evidence = sorted({*budgets, settings.budget_reference})
    trials, look_backs = sum(search.round_trials), search.look_back_trials
    stages = [
        of_schedules("recording full runs", 1, settings.num_inference_steps, pairs),
        of_schedules("tuning the graph policy", policies * len(budgets), policies * family, pairs),
        of_schedules("searching the anchor", 1 + trials, (1 + trials) * anchor, pairs),
    ]
    if search.kind == "per-pair":
        pool = 2 + 2 * pairs
        stages.append(of_schedules("pooling what the pairs found", pool, pool * anchor, pairs))
    return (
        *stages,
        of_schedules("choosing anchor and rho", tried * len(budgets), tried * family, pairs),
        of_schedules(
            "searching look-backs",
            look_backs * (len(budgets) + 1),
            look_backs * (family + anchor),
            pairs,
        ),
        of_schedules(
            "evidence on held-out pairs",
            1 + len(EVIDENCE_OF) * len(evidence),
            settings.num_inference_steps + len(EVIDENCE_OF) * sum(evidence),
            held_out,
        ),
    )


@dataclass(frozen=True)
class MeasuredStep:
    """What one pipeline call of a full batch takes here.

    Attributes:
        seconds: of one denoising step.
        overhead_seconds: of everything else in the call: text encoding, decoding.
        transformer_calls: of one step; two where guidance is a second call.
        peak_bytes: most memory in use meanwhile, on the accelerator where there is one.
    """

    seconds: float
    overhead_seconds: float
    transformer_calls: int
    peak_bytes: int


def measure_step(setup: ModelSetup, settings: CalibrationSettings) -> MeasuredStep:
    """Times two short calls, after one that is not timed."""
    pairs = setup.calibration_pairs(settings.pairs, settings.seed)[: settings.batch_size]
    on_gpu = setup.pipe.device.type == "cuda"
    torch.set_num_threads(settings.threads)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(setup.pipe.device)

    def call(steps: int) -> tuple[float, int]:
        started = time.perf_counter()
        with count_transformer_calls(setup.pipe) as counter:
            arguments = {**setup.call_arguments, "num_inference_steps": steps}
            generate_outputs(setup.pipe, pairs, arguments, len(pairs))
        return time.perf_counter() - started, counter.calls

    few, more = PROBE_STEPS
    call(few)
    (few_seconds, few_calls), (more_seconds, more_calls) = call(few), call(more)
    step = max(0.0, (more_seconds - few_seconds) / (more - few))
    peak = (
        torch.cuda.max_memory_allocated(setup.pipe.device)
        if on_gpu
        # Linux counts in kilobytes, macOS in bytes.
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
    )
    calls = (more_calls - few_calls) // (more - few)
    return MeasuredStep(step, max(0.0, few_seconds - few * step), calls, peak)


@dataclass(frozen=True)
class Estimate:
    """What a calibration will take at most.

    Attributes:
        stages: of it.
        step: measured here.
        batch_size: pairs per pipeline call.
    """

    stages: tuple[StageCost, ...]
    step: MeasuredStep
    batch_size: int

    def transformer_calls(self, stage: StageCost) -> int:
        """Calls of the transformer, a batch counting once."""
        return ceil(stage.steps / self.batch_size) * self.step.transformer_calls

    def seconds(self, stage: StageCost) -> float:
        """On one worker."""
        calls = self.step.seconds * stage.steps + self.step.overhead_seconds * stage.runs
        return calls / self.batch_size
