"""What a calibration costs, before it is begun: by the formula, and by a measured batch."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from otcache_policies import UniformPolicy

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.evidence.rows import FEWER_STEPS
from otcache_plugin.calibration.measuring.units import Evaluate, Measured, Record
from otcache_plugin.evaluation.batches import batches_of
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
    batches = batches_of("calibration", settings.pairs, settings.batch_size)
    workload = Workload(steps, max_look_back, batches)
    held_out = ceil(settings.held_out_pairs / settings.batch_size)
    methods = len((FEWER_STEPS, *calibrator.peers, task.policy))
    budgets = calibrator.evidence_budgets(task.options, steps)
    return (
        *calibrator.costs(task.options, workload),
        StageCost(
            stages.EVIDENCE,
            (1 + methods * len(budgets)) * held_out,
            (steps + methods * sum(budgets)) * held_out,
        ),
    )


@dataclass(frozen=True)
class MeasuredCosts:
    """What a batch of pairs takes here.

    Attributes:
        record_seconds: a full run, recorded and rolled out.
        step_seconds: one denoising step.
        run_seconds: everything else in a run: text encoding, decoding, the metric.
        transformer_calls: of one step; two where guidance is a second call.
        peak_bytes: most memory in use meanwhile, on the accelerator where there is one.
    """

    record_seconds: float
    step_seconds: float
    run_seconds: float
    transformer_calls: int
    peak_bytes: int


def measure_costs(
    worker: Worker, settings: MeasuringSettings, few: int, more: int
) -> MeasuredCosts:
    """Record the first batch, and run it at two budgets of which the second is larger."""
    worker.reset_peak_memory()
    batch = batches_of("calibration", settings.pairs, settings.batch_size)[0]
    (_, reference), (_, recorded) = worker.measure(Record(batch), {})
    uniform = UniformPolicy(settings.num_inference_steps)

    def run(budget: int) -> Measured:
        unit = Evaluate(batch, uniform.schedule(budget), (settings.metric,))
        ((_, measured),) = worker.measure(unit, reference.arrays)
        return measured

    short, long = run(few), run(more)
    step = max(0.0, (long.seconds - short.seconds) / (more - few))
    return MeasuredCosts(
        record_seconds=recorded.seconds,
        step_seconds=step,
        run_seconds=max(0.0, short.seconds - few * step),
        transformer_calls=long.transformer_calls // more,
        peak_bytes=worker.peak_memory(),
    )


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
        return stage.steps * self.measured.transformer_calls

    def seconds(self, stage: StageCost) -> float:
        """On one worker."""
        if stage.stage == RECORDING:
            return self.measured.record_seconds * stage.runs
        return self.measured.step_seconds * stage.steps + self.measured.run_seconds * stage.runs
