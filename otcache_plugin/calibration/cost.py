"""What calibrations cost, before one is begun: by the formula, and by a measured batch."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from otcache_policies import GramPolicy, GramSettings, UniformPolicy

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.evidence.rows import FEWER_STEPS
from otcache_plugin.calibration.measuring.grams import gram_table
from otcache_plugin.calibration.measuring.units import Evaluate, Measured, Record, Reference
from otcache_plugin.calibration.settings import EVIDENCE_METRICS, SMALL_BATCH
from otcache_plugin.evaluation.batches import Batch, batches_of
from otcache_plugin.plugins.costs import (
    FULL_RUNS,
    RECORDING,
    WATCHING,
    StageCost,
    Workload,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from otcache_plugin.calibration.measuring.worker import Worker
    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.calibration.task import CalibrationTask


SHARE_OF_RACES = 0.9
"""Of a race's steps that are computed: what schedules that are the same save, and runs that begin
alike, is spent in its last heat, but not all of it. Seen were 90 to 97 % of those of 48 pairs on
eight exact flows, 76 and 89 % on trained models."""

SHARE_OF_EVIDENCE = 0.9
"""Likewise of the evidence: 89 % on an exact flow."""


def stage_costs(
    task: CalibrationTask, settings: MeasuringSettings, max_look_back: int
) -> tuple[StageCost, ...]:
    """Return upper bounds of each stage, in runs and steps of whole batches.

    Args:
        task: what is calibrated.
        settings: of the measuring.
        max_look_back: largest that the scheduler has room for.
    """
    steps, calibrator = settings.num_inference_steps, task.calibrator
    max_look_back = min(max_look_back, settings.max_look_back)
    pairs = settings.held_out_pairs
    batches = batches_of("calibration", settings.pairs, settings.batch_size)
    workload = Workload(steps, max_look_back, batches, min(SMALL_BATCH, settings.batch_size))
    held_out = ceil(pairs / settings.batch_size)
    methods = len((FEWER_STEPS, *calibrator.peers, task.policy))
    calls = evidence_calls(task, settings)
    budgets = calibrator.evidence_budgets(task.options, steps)
    return (
        *calibrator.costs(task.options, workload),
        StageCost(
            stages.EVIDENCE,
            held_out + calls * len(budgets),
            steps * held_out + calls * sum(budgets),
            (steps + methods * sum(budgets)) * pairs,
        ),
    )


def evidence_calls(task: CalibrationTask, settings: MeasuringSettings) -> int:
    """Return the pipeline calls of all methods at one budget, on all held-out pairs."""
    batches = ceil(settings.held_out_pairs / settings.batch_size)
    others = len((FEWER_STEPS, *task.calibrator.peers))
    # Whoever decides does it for each pair on its own.
    own = settings.held_out_pairs if task.calibrator.decides else batches
    return others * batches + own


@dataclass(frozen=True)
class MeasuredCosts:
    """What pipeline calls take here, by how many pairs they are for.

    Attributes:
        first_seconds: what the first run of all takes longer: what is loaded late is loaded then.
        record_seconds: a full run of a whole batch, recorded and rolled out.
        call_step_seconds: one step of a call, before its pairs are counted.
        pair_step_seconds: and that for each of its pairs.
        call_seconds: everything else in a call: text encoding, decoding, the metric.
        judge_seconds: the evidence's other metrics, in a call of a whole batch.
        minimise_seconds: finding a schedule by the quadratic form of what was recorded.
        transformer_calls: of one step; two where guidance is a second call.
        peak_bytes: most memory in use meanwhile, on the accelerator where there is one; None where
            the system does not tell.
    """

    first_seconds: float
    record_seconds: float
    call_step_seconds: float
    pair_step_seconds: float
    call_seconds: float
    judge_seconds: float
    minimise_seconds: float
    transformer_calls: int
    peak_bytes: int | None


def measure_costs(
    worker: Worker, settings: MeasuringSettings, few: int, more: int
) -> MeasuredCosts:
    """Record the first batch, and run it, and a part of it, at two budgets, the second larger."""
    worker.reset_peak_memory()
    batch = batches_of("calibration", settings.pairs, settings.batch_size)[0]
    small = replace(batch, stop=min(batch.stop, SMALL_BATCH))
    ((_, first),) = worker.measure(Reference(small), {})
    (_, reference), (_, recorded) = worker.measure(Record(batch), {})
    total = settings.num_inference_steps
    uniform = UniformPolicy(total)

    def run(pairs: Batch, budget: int, *others: str) -> Measured:
        metrics = tuple(dict.fromkeys([settings.metric, *others]))
        unit = Evaluate(pairs, uniform.schedule(budget), metrics)
        outputs = {name: reference.arrays[name][: len(pairs)] for name in reference.arrays}
        ((_, measured),) = worker.measure(unit, outputs)
        return measured

    run(small, few)  # What the executor loads late is loaded then.
    short, long = run(batch, few), run(batch, more)
    step, call = _per_step(short, long, few, more)
    own = 0.0
    if len(small) < len(batch):
        fewer, _ = _per_step(run(small, few), run(small, more), few, more)
        own = max(0.0, step - fewer) / (len(batch) - len(small))
    judged = run(batch, few, *EVIDENCE_METRICS)
    usual = (step - own * (len(batch) - len(small))) * total + call
    return MeasuredCosts(
        first_seconds=max(0.0, first.seconds - usual),
        record_seconds=recorded.seconds,
        call_step_seconds=max(0.0, step - own * len(batch)),
        pair_step_seconds=own,
        call_seconds=call,
        judge_seconds=max(0.0, judged.seconds - short.seconds),
        minimise_seconds=_minimising(recorded.arrays, settings, (few, more)),
        transformer_calls=sum(long.calls) // more,
        peak_bytes=worker.peak_memory(),
    )


def _minimising(
    recorded: Mapping[str, NDArray[Any]], settings: MeasuringSettings, budgets: tuple[int, int]
) -> float:
    """Return the seconds of finding a schedule, in the mean over budgets.

    It takes longer with more pairs. Those of the batch stand for all of them, over and over.
    """
    started = time.monotonic()
    grams = [recorded[name] for name in ("grams", "latent_grams") if name in recorded]
    repeated = [np.resize(each, (settings.pairs, *each.shape[1:])) for each in grams]
    table = gram_table(np.concatenate(repeated), recorded)
    largest = settings.max_look_back if table.response is None else 1
    policy = GramPolicy(table, GramSettings(max_look_back=largest))
    for budget in budgets:
        policy.schedule(budget)
    return (time.monotonic() - started) / len(budgets)


def _per_step(short: Measured, long: Measured, few: int, more: int) -> tuple[float, float]:
    """Return the seconds of a step, and of the rest of a run."""
    step = max(0.0, (long.seconds - short.seconds) / (more - few))
    return step, max(0.0, short.seconds - few * step)


@dataclass(frozen=True)
class Estimate:
    """What a calibration will take.

    Attributes:
        stages: of it, in their order.
        pairs: calibration pairs.
        measured: here, on one worker.
        loading_seconds: until there is a pipeline.
    """

    stages: tuple[StageCost, ...]
    pairs: int
    measured: MeasuredCosts
    loading_seconds: float

    @property
    def ends_early(self) -> bool:
        """Whether it is an upper bound that some stage usually stays far below."""
        return any(stage.ends_early for stage in self.stages)

    @property
    def denoising_steps(self) -> int:
        """Of all stages but the evidence."""
        return sum(self.steps(each) for each in self.stages if each.stage != stages.EVIDENCE)

    @property
    def evidence_steps(self) -> int:
        """Denoising steps for held-out pairs."""
        return sum(self.steps(each) for each in self.stages if each.stage == stages.EVIDENCE)

    def steps(self, stage: StageCost) -> int:
        """Return the denoising steps, each pair's own: as usual, or at most where it ends early."""
        return round(self._share(stage) * stage.denoising_steps)

    def _share(self, stage: StageCost) -> float:
        """Return how much of a stage's steps is usually computed, but for searches."""
        if stage.ends_early or stage.stage in (RECORDING, FULL_RUNS, WATCHING):
            return 1.0
        return SHARE_OF_EVIDENCE if stage.stage == stages.EVIDENCE else SHARE_OF_RACES

    @property
    def starting_seconds(self) -> float:
        """Of loading the model, and whatever its first run loads."""
        return self.loading_seconds + self.measured.first_seconds

    @property
    def all_seconds(self) -> float:
        """Of everything, on one worker."""
        return self.starting_seconds + sum(map(self.seconds, self.stages))

    @property
    def all_transformer_calls(self) -> int:
        """Of everything."""
        return sum(map(self.transformer_calls, self.stages))

    def transformer_calls(self, stage: StageCost) -> int:
        """Return the calls of the transformer, a batch counting once."""
        return round(self._share(stage) * stage.call_steps) * self.measured.transformer_calls

    def seconds(self, stage: StageCost) -> float:
        """Return the seconds on one worker."""
        measured = self.measured
        if stage.stage == RECORDING:
            return measured.record_seconds * stage.calls
        judging = measured.judge_seconds if stage.stage == stages.EVIDENCE else 0.0
        return (
            measured.call_step_seconds * stage.call_steps * self._share(stage)
            + measured.pair_step_seconds * self.steps(stage)
            + (measured.call_seconds + judging) * stage.calls
            + measured.minimise_seconds * stage.minimised
        )
