"""What a calibration costs, before it is begun: by the formula, and by a measured batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

from otcache_policies import UniformPolicy

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.evidence.rows import FEWER_STEPS
from otcache_plugin.calibration.measuring.units import Evaluate, Measured, Record
from otcache_plugin.calibration.settings import SMALL_BATCH
from otcache_plugin.evaluation.batches import Batch, batches_of
from otcache_plugin.plugins.calibrating import RECORDING, StageCost, Workload

if TYPE_CHECKING:
    from otcache_plugin.calibration.measuring.worker import Worker
    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.calibration.task import CalibrationTask


def stage_costs(
    task: CalibrationTask, settings: MeasuringSettings, max_look_back: int
) -> tuple[StageCost, ...]:
    """Return upper bounds of each stage, in runs and steps of whole batches."""
    steps, calibrator = settings.num_inference_steps, task.calibrator
    pairs = settings.held_out_pairs
    batches = batches_of("calibration", settings.pairs, settings.batch_size)
    workload = Workload(steps, max_look_back, batches, min(SMALL_BATCH, settings.batch_size))
    held_out = ceil(pairs / settings.batch_size)
    methods = len((FEWER_STEPS, *calibrator.peers, task.policy))
    budgets = calibrator.evidence_budgets(task.options, steps)
    return (
        *calibrator.costs(task.options, workload),
        StageCost(
            stages.EVIDENCE,
            (1 + methods * len(budgets)) * held_out,
            (steps + methods * sum(budgets)) * held_out,
            (steps + methods * sum(budgets)) * pairs,
        ),
    )


@dataclass(frozen=True)
class MeasuredCosts:
    """What pipeline calls take here, by how many pairs they are for.

    Attributes:
        record_seconds: a full run of a whole batch, recorded and rolled out.
        call_step_seconds: one step of a call, before its pairs are counted.
        pair_step_seconds: and that for each of its pairs.
        call_seconds: everything else in a call: text encoding, decoding, the metric.
        transformer_calls: of one step; two where guidance is a second call.
        peak_bytes: most memory in use meanwhile, on the accelerator where there is one.
    """

    record_seconds: float
    call_step_seconds: float
    pair_step_seconds: float
    call_seconds: float
    transformer_calls: int
    peak_bytes: int


def measure_costs(
    worker: Worker, settings: MeasuringSettings, few: int, more: int
) -> MeasuredCosts:
    """Record the first batch, and run it, and a part of it, at two budgets, the second larger."""
    worker.reset_peak_memory()
    batch = batches_of("calibration", settings.pairs, settings.batch_size)[0]
    (_, reference), (_, recorded) = worker.measure(Record(batch), {})
    uniform = UniformPolicy(settings.num_inference_steps)

    def run(pairs: Batch, budget: int) -> Measured:
        unit = Evaluate(pairs, uniform.schedule(budget), (settings.metric,))
        outputs = {name: reference.arrays[name][: len(pairs)] for name in reference.arrays}
        ((_, measured),) = worker.measure(unit, outputs)
        return measured

    small = replace(batch, stop=min(batch.stop, SMALL_BATCH))
    run(small, few)  # The first run of all takes longer: what is loaded late is loaded then.
    short, long = run(batch, few), run(batch, more)
    step, call = _per_step(short, long, few, more)
    own = 0.0
    if len(small) < len(batch):
        fewer, _ = _per_step(run(small, few), run(small, more), few, more)
        own = max(0.0, step - fewer) / (len(batch) - len(small))
    return MeasuredCosts(
        record_seconds=recorded.seconds,
        call_step_seconds=max(0.0, step - own * len(batch)),
        pair_step_seconds=own,
        call_seconds=call,
        transformer_calls=sum(long.calls) // more,
        peak_bytes=worker.peak_memory(),
    )


def _per_step(short: Measured, long: Measured, few: int, more: int) -> tuple[float, float]:
    """Return the seconds of a step, and of the rest of a run."""
    step = max(0.0, (long.seconds - short.seconds) / (more - few))
    return step, max(0.0, short.seconds - few * step)


@dataclass(frozen=True)
class Estimate:
    """What a calibration will take at most.

    Attributes:
        stages: of it, recording first.
        measured: here, on one worker.
        batch_size: pairs per pipeline call.
    """

    stages: tuple[StageCost, ...]
    measured: MeasuredCosts
    batch_size: int

    def transformer_calls(self, stage: StageCost) -> int:
        """Calls of the transformer, a batch counting once."""
        return stage.call_steps * self.measured.transformer_calls

    def seconds(self, stage: StageCost) -> float:
        """On one worker."""
        measured = self.measured
        if stage.stage == RECORDING:
            return measured.record_seconds * stage.calls
        return (
            measured.call_step_seconds * stage.call_steps
            + measured.pair_step_seconds * stage.denoising_steps
            + measured.call_seconds * stage.calls
        )
