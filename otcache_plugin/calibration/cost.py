"""What a calibration costs, before it is begun: by the formula, and by a measured batch."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from otcache_policies import UniformPolicy

from otcache_plugin.calibration import stages
from otcache_plugin.calibration.evidence.rows import EVIDENCE_OF
from otcache_plugin.calibration.measuring.units import Evaluate, Measured, Record, batches_of
from otcache_plugin.calibration.searching.scopes import SCOPES
from otcache_plugin.calibration.searching.tuning import edge_settings
from otcache_plugin.calibration.settings import RHOS
from otcache_plugin.calibration.stages import StageCost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.calibration.measuring.worker import Worker
    from otcache_plugin.calibration.settings import CalibrationSettings


def stage_costs(settings: CalibrationSettings, max_look_back: int) -> tuple[StageCost, ...]:
    """Return upper bounds of each stage, in runs and steps of whole batches."""
    search, budgets = settings.search, settings.searched_budgets
    smallest, *others = budgets
    largest, predicted = settings.budget_reference, settings.predicted_budgets
    batches = ceil(settings.pairs / settings.batch_size)
    held_out = ceil(settings.held_out_pairs / settings.batch_size)
    readings = len(edge_settings(max_look_back))

    def tried(stage: str, count: int, at: Sequence[int]) -> StageCost:
        return StageCost(stage, count * len(at) * batches, count * sum(at) * batches)

    def searched(name: str, budget: int) -> tuple[StageCost, ...]:
        whole = batches_of("calibration", settings.pairs, settings.batch_size)
        return SCOPES[search.kind].costs(name, budget, search.all_trials, whole)

    waypoints = [
        stage
        for budget in others
        for stage in (
            tried(stages.predicting(stages.waypoint(budget)), len(RHOS), [budget]),
            *searched(stages.waypoint(budget), budget),
        )
    ]
    evidence = sorted({*budgets, *predicted, largest})
    measured = settings.num_inference_steps + len(EVIDENCE_OF) * sum(evidence)
    return (
        StageCost(stages.RECORDING, batches, settings.num_inference_steps * batches),
        tried(stages.TUNING, readings, budgets),
        tried(stages.REFERENCE, readings, [largest]),
        *searched(stages.ANCHOR, smallest),
        *waypoints,
        tried(stages.RHO, len(RHOS), predicted),
        StageCost(
            stages.EVIDENCE,
            (1 + len(EVIDENCE_OF) * len(evidence)) * held_out,
            measured * held_out,
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


def measure_costs(worker: Worker, settings: CalibrationSettings) -> MeasuredCosts:
    """Record the first batch, and run it at the anchor's and at the reference's budget."""
    worker.reset_peak_memory()
    batch = batches_of("calibration", settings.pairs, settings.batch_size)[0]
    (_, reference), (_, recorded) = worker.measure(Record(batch), {})
    uniform = UniformPolicy(settings.num_inference_steps)

    def run(budget: int) -> Measured:
        unit = Evaluate(batch, uniform.schedule(budget), (settings.metric,))
        ((_, measured),) = worker.measure(unit, reference.arrays)
        return measured

    few, more = settings.budget_anchor, settings.budget_reference
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
        if stage.stage == stages.RECORDING:
            return self.measured.record_seconds * stage.runs
        return self.measured.step_seconds * stage.steps + self.measured.run_seconds * stage.runs
