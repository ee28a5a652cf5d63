"""What a calibration costs, before it is begun: by the formula, and by a measured batch."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from otcache_policies import UniformPolicy

from otcache_plugin.calibration.evidence import EVIDENCE_OF
from otcache_plugin.calibration.tuning import (
    BEST_OF_EACH_PAIR,
    POOL_SIZE,
    RHOS,
    edge_settings,
    tuning_budgets,
)
from otcache_plugin.calibration.units import Evaluate, Measured, Record, batches_of

if TYPE_CHECKING:
    from otcache_plugin.calibration.settings import CalibrationSettings
    from otcache_plugin.calibration.worker import Worker

RECORDING = "recording full runs"


@dataclass(frozen=True)
class StageCost:
    """One stage at most: identical schedules are run once, hopeless trials not to the end.

    Attributes:
        stage: what it is.
        runs: pipeline calls, each for a batch of pairs.
        steps: denoising steps computed in them.
    """

    stage: str
    runs: int
    steps: int


def stage_costs(settings: CalibrationSettings, max_look_back: int) -> tuple[StageCost, ...]:
    """Upper bounds of each stage, in runs and steps of whole batches."""
    anchor, search = settings.budget_anchor, settings.anchor
    budgets = tuning_budgets(anchor, settings.budget_reference)
    batches = ceil(settings.pairs / settings.batch_size)
    held_out = ceil(settings.held_out_pairs / settings.batch_size)
    # A pair that is searched on its own is run on its own.
    searched = settings.pairs if search.kind == "per-pair" else batches
    family = sum(budgets)

    def of_schedules(stage: str, count: int, steps: int, on: int) -> StageCost:
        return StageCost(stage, count * on, steps * on)

    policies = len(edge_settings(max_look_back))
    tried = 2 * len(RHOS) + POOL_SIZE + policies
    ends = (*budgets, settings.budget_reference)
    evidence = sorted({*budgets, settings.budget_reference})
    trials = search.search_trials
    stages = [
        of_schedules(RECORDING, 1, settings.num_inference_steps, batches),
        of_schedules(
            "tuning the graph policy", policies * len(budgets), policies * family, batches
        ),
        of_schedules("searching the anchor", 1 + trials, (1 + trials) * anchor, searched),
    ]
    if search.kind == "per-pair":
        pool = 2 + BEST_OF_EACH_PAIR * settings.pairs
        stages.append(of_schedules("pooling what the pairs found", pool, pool * anchor, batches))
    return (
        *stages,
        of_schedules(
            "choosing anchor, reference, rho", tried * len(ends), tried * sum(ends), batches
        ),
        of_schedules(
            "improving what is predicted",
            search.family_trials * len(budgets),
            search.family_trials * family,
            batches,
        ),
        of_schedules(
            "the anchor's look-backs",
            search.look_back_trials,
            search.look_back_trials * anchor,
            batches,
        ),
        of_schedules(
            "evidence on held-out pairs",
            1 + len(EVIDENCE_OF) * len(evidence),
            settings.num_inference_steps + len(EVIDENCE_OF) * sum(evidence),
            held_out,
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
    """Records the first batch, and runs it at the anchor's and at the reference's budget."""
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
        if stage.stage == RECORDING:
            return self.measured.record_seconds * stage.runs
        return self.measured.step_seconds * stage.steps + self.measured.run_seconds * stage.runs
