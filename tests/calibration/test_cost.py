"""What a calibration costs: by hand, and against what one really did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_calibration import SETTINGS, Calibrated, calibrate_flow, evidence_of, task_of

from otcache_plugin.calibration.cost import (
    Estimate,
    MeasuredCosts,
    measure_costs,
    stage_costs,
)
from otcache_plugin.calibration.measuring.units import Evaluate, Measured, Record, Reference, Unit
from otcache_plugin.calibration.measuring.worker import Worker
from otcache_plugin.calibration.otcache import OTCacheCalibrator
from otcache_plugin.calibration.racing.plan import RacePlan
from otcache_plugin.calibration.searching.default_search import ClimbsAndRounds
from otcache_plugin.calibration.settings import (
    MAX_LOOK_BACK,
    MeasuringSettings,
    OTCacheOptions,
    SearchSettings,
)
from otcache_plugin.evaluation.batches import batches_of
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.plugins.costs import StageCost, Workload

MakeSetup = Callable[[], ModelSetup]
BY_HAND = MeasuringSettings(num_inference_steps=12, pairs=7, held_out_pairs=3, batch_size=3)
OPTIONS_BY_HAND = OTCacheOptions(
    effort="paper",
    search="joint",
    budget_reference=9,
    budget_anchor=4,
    waypoints=(6,),
    trials=10,
)
"""Three batches and one held-out one; searched are 4 and 6 steps, predicted 5 and 7."""

TRIALS = 1 + 10 + 3 * 4
"""Of one search: its warm start, two rounds, and three climbs of two fifths as many."""


def costs_of(max_look_back: int = 6, **options: Any) -> tuple[StageCost, ...]:
    """Of a calibration with those options changed."""
    task = task_of(OPTIONS_BY_HAND.model_copy(update=options))
    return stage_costs(task, BY_HAND, max_look_back)


def searched(stage: str, calls: int, call_steps: int, denoising_steps: int) -> StageCost:
    """The cost of a stage that usually ends long before."""
    return StageCost(stage, calls, call_steps, denoising_steps, ends_early=True)


def test_stages_by_hand() -> None:
    assert costs_of() == (
        # Three batches, of seven pairs altogether.
        StageCost("recording full runs", 3, 3 * 12, 7 * 12),
        # Two costs, three gammas and four rules at two budgets.
        searched("tuning the graph policy", 3 * 24 * 2, 3 * 24 * 10, 7 * 24 * 10),
        searched("choosing the reference", 3 * 24, 3 * 24 * 9, 7 * 24 * 9),
        searched("searching the anchor", 3 * TRIALS, 3 * TRIALS * 4, 7 * TRIALS * 4),
        # What the graph policy gives at 6 steps is known; what each rho does is not.
        searched("predicting 6 steps", 3 * 11, 3 * 11 * 6, 7 * 11 * 6),
        searched("searching 6 steps", 3 * TRIALS, 3 * TRIALS * 6, 7 * TRIALS * 6),
        searched("choosing rho", 3 * 11 * 2, 3 * 11 * 12, 7 * 11 * 12),
        # A full run, then four methods at five budgets, on one batch of three pairs.
        StageCost("evidence on held-out pairs", 1 + 4 * 5, 12 + 4 * 31, 3 * (12 + 4 * 31)),
    )


def test_a_table_with_one_look_back_has_fewer_readings() -> None:
    costs = {each.stage: each.calls for each in costs_of(1)}
    assert costs["tuning the graph policy"] == 3 * (2 * 3 * 2) * 2
    assert costs["choosing the reference"] == 3 * (2 * 3 * 2)


def test_a_pair_searched_on_its_own_is_run_on_its_own() -> None:
    joint, per_pair = costs_of(), costs_of(search="per-pair")
    assert per_pair[3:5] == (
        searched("searching the anchor", 7 * TRIALS, 7 * TRIALS * 4, 7 * TRIALS * 4),
        # Two of each pair, the warm start and the barycentre.
        searched("pooling the anchor", 3 * 16, 3 * 16 * 4, 7 * 16 * 4),
    )
    assert per_pair[6:8] == (
        searched("searching 6 steps", 7 * TRIALS, 7 * TRIALS * 6, 7 * TRIALS * 6),
        searched("pooling 6 steps", 3 * 16, 3 * 16 * 6, 7 * 16 * 6),
    )
    assert (*per_pair[:3], per_pair[5], *per_pair[8:]) == (*joint[:3], joint[4], *joint[6:])


def test_without_waypoints_one_schedule_is_searched() -> None:
    costs = {each.stage: each for each in costs_of(waypoints=())}
    assert [stage for stage in costs if "searching" in stage] == ["searching the anchor"]
    # In the middle of 4 and 9.
    assert costs["choosing rho"] == searched("choosing rho", 3 * 11, 3 * 11 * 6, 7 * 11 * 6)
    assert costs["evidence on held-out pairs"].call_steps == 12 + 4 * (4 + 6 + 9)


def test_the_stages_of_each_effort() -> None:
    def stages(effort: str, **options: Any) -> dict[str, StageCost]:
        task = task_of(
            OTCacheOptions(effort=effort, budget_reference=9, budget_anchor=4, **options)
        )
        settings = replace(BY_HAND, pairs=16, batch_size=8)
        return {each.stage: each for each in stage_costs(task, settings, 6)}

    quick, standard = stages("quick"), stages("standard")
    assert list(quick.values())[:-1] == [
        StageCost("recording full runs", 2, 2 * 12, 16 * 12),
        # A schedule of each budget from 4 to 9.
        StageCost("optimising the quadratic form", 0, 0, 0, minimised=6),
    ]
    # With three dampings before the runs, and twice with gains.
    assert standard["optimising the quadratic form"].minimised == 3 * 6
    assert standard["optimising with gains"].minimised == 2 * 6
    # Three candidates of each budget, on four pairs in one call.
    fitted = StageCost("heat of fitted candidates", 3 * 6, 3 * 39, 4 * 3 * 39)
    assert standard["heat of fitted candidates"] == fitted
    assert not any(each.ends_early for each in standard.values())
    thorough = stages("thorough", trials=10, waypoints=(6,))
    assert {stage for stage in thorough if thorough[stage].ends_early} == {
        "searching 4 steps",
        "searching 6 steps",
        "finals of what was searched",
        "finals of what is predicted",
    }
    # The searches run on half of the pairs.
    assert thorough["searching 6 steps"].denoising_steps == 8 * TRIALS * 6


def test_the_second_heat_costs_what_it_runs() -> None:
    plan = RacePlan(50, 400, range(8, 10))
    heat = {
        each.stage: each
        for each in plan.costs(Workload(50, 6, batches_of("calibration", 400, 16), 4))
    }["second heat"]
    assert len(plan.second_heat(8)) > 4
    assert heat.denoising_steps == sum(4 * len(plan.second_heat(each)) * each for each in (8, 9))


def assert_bounded(calibrated: Calibrated) -> None:
    costs = stage_costs(calibrated.task, calibrated.settings, MAX_LOOK_BACK)
    calls, steps = calibrated.calls, calibrated.steps
    assert [each.stage for each in costs] == list(calibrated.stages.total)
    assert sum(calls.values()) > 100
    for cost in costs:
        assert calls.get(cost.stage, 0) <= cost.call_steps, cost.stage
        assert steps.get(cost.stage, 0) <= cost.denoising_steps, cost.stage
    assert calls["recording full runs"] == costs[0].call_steps
    assert steps["recording full runs"] == costs[0].denoising_steps


def test_no_stage_takes_more_than_its_bound(calibrated: Calibrated) -> None:
    assert_bounded(calibrated)
    # A full run, and whatever differs of four methods at five budgets.
    schedules = set(evidence_of(calibrated.policy, range(4, 9)).values())
    whole = 12 + sum(each.budget for each in schedules)
    # What begins like another one is replayed, and counted so: three pairs, in one batch.
    calls = calibrated.calls["evidence on held-out pairs"]
    done = calibrated.document.calibration
    assert done is not None
    assert done.evidence_steps == 3 * calls
    assert 12 < calls < whole


@pytest.mark.parametrize("kind", ["joint", "per-pair"])
def test_bounds_hold_where_nothing_is_ever_hopeless(
    make_setup: MakeSetup, tmp_path: Path, kind: Any
) -> None:
    def never_hopeless(options: OTCacheOptions) -> ClimbsAndRounds:
        return ClimbsAndRounds(SearchSettings(trials=10, patience=100, prune_below=0.0))

    settings = MeasuringSettings(num_inference_steps=8, pairs=3, held_out_pairs=2, batch_size=2)
    options = OTCacheOptions(
        effort="paper", budget_reference=5, budget_anchor=3, waypoints=(4,), search=kind
    )
    calibrator = OTCacheCalibrator(never_hopeless)
    folder = tmp_path / "work"
    assert_bounded(calibrate_flow(make_setup(), folder, settings, options, calibrator))


class Counting(Worker):
    """A worker that keeps what it was asked to measure."""

    def __init__(self, setup: ModelSetup, settings: MeasuringSettings) -> None:
        super().__init__(setup, settings)
        self.measured: list[tuple[Unit, Measured]] = []

    def measure(
        self, unit: Unit, reference: Mapping[str, NDArray[Any]]
    ) -> list[tuple[Unit, Measured]]:
        found = super().measure(unit, reference)
        self.measured += found
        return found


def evaluations(worker: Counting) -> list[tuple[Evaluate, Measured]]:
    """The runs with a schedule, in their order."""
    return [(unit, found) for unit, found in worker.measured if isinstance(unit, Evaluate)]


def test_costs_are_measured_on_the_first_batch(setup: ModelSetup) -> None:
    threads = torch.get_num_threads()
    worker = Counting(setup, SETTINGS)
    costs = measure_costs(worker, SETTINGS, 4, 8)
    worker.close()
    torch.set_num_threads(threads)
    runs = evaluations(worker)
    # The first run of all takes longer, and is not counted.
    assert [unit.schedule.budget for unit, _ in runs] == [4, 4, 8, 4]
    # The last with all that the evidence is judged by.
    assert [unit.metrics for unit, _ in runs][2:] == [("psnr",), ("psnr", "ssim")]
    assert {(unit.batch.start, unit.batch.stop) for unit, _ in worker.measured} == {(0, 3)}
    _, (_, short), (_, long), (_, judged) = runs
    assert costs.judge_seconds == max(0.0, judged.seconds - short.seconds)
    recorded = worker.measured[2][1]
    kinds = [type(unit) for unit, _ in worker.measured]
    # The first run of all is not one of those that are counted with.
    assert kinds[:3] == [Reference, Reference, Record]
    assert (sum(recorded.calls), sum(short.calls)) == (12, 4)
    assert costs.transformer_calls == 1
    assert costs.record_seconds == recorded.seconds > 0
    assert costs.call_step_seconds == max(0.0, (long.seconds - short.seconds) / 4)
    assert costs.call_seconds == max(0.0, short.seconds - 4 * costs.call_step_seconds)
    # There is no smaller batch to tell a pair's share from.
    assert costs.pair_step_seconds == 0.0
    assert costs.peak_bytes is not None
    assert costs.peak_bytes > 2**20
    # It compares with the full run, as a calibration will.
    assert all(np.isfinite(measured.arrays["psnr"]).all() for _, measured in runs)


def test_what_a_pair_takes_is_told_by_a_smaller_batch(setup: ModelSetup) -> None:
    threads = torch.get_num_threads()
    settings = replace(SETTINGS, pairs=6, batch_size=6)
    worker = Counting(setup, settings)
    costs = measure_costs(worker, settings, 4, 8)
    worker.close()
    torch.set_num_threads(threads)
    runs = evaluations(worker)
    assert [(len(unit.batch), unit.schedule.budget) for unit, _ in runs] == [
        (4, 4),
        *[(6, 4), (6, 8), (4, 4), (4, 8), (6, 4)],
    ]
    seconds = [measured.seconds for _, measured in runs[1:]]
    whole, part = (max(0.0, (long - short) / 4) for short, long in (seconds[:2], seconds[2:4]))
    assert costs.pair_step_seconds == max(0.0, (whole - part) / 2)
    assert costs.call_step_seconds == max(0.0, whole - 6 * costs.pair_step_seconds)
    assert costs.call_seconds == max(0.0, seconds[0] - 4 * whole)


def test_an_estimate_by_hand() -> None:
    measured = MeasuredCosts(
        first_seconds=3.0,
        record_seconds=2.0,
        call_step_seconds=0.25,
        pair_step_seconds=0.0625,
        call_seconds=0.125,
        judge_seconds=0.25,
        minimise_seconds=0.5,
        transformer_calls=2,
        peak_bytes=2**30,
    )
    recording, optimising, search, evidence = (
        StageCost("recording full runs", 3, 36, 84),
        StageCost.without_model("optimising the quadratic form", 6),
        StageCost("searching the anchor", 10, 40, 96, ends_early=True),
        StageCost("evidence on held-out pairs", 2, 8, 16),
    )
    estimate = Estimate((recording, optimising, search, evidence), 7, measured, 5.0)
    assert estimate.transformer_calls(recording) == 72
    assert estimate.transformer_calls(search) == 80
    assert estimate.seconds(recording) == 6.0
    assert estimate.seconds(search) == 40 * 0.25 + 96 * 0.0625 + 10 * 0.125
    assert estimate.seconds(optimising) == 6 * 0.5
    # Nine tenths of the evidence are run: of 16 steps 14.
    assert (estimate.denoising_steps, estimate.evidence_steps) == (84 + 96, 14)
    assert estimate.seconds(evidence) == 0.9 * 8 * 0.25 + 14 * 0.0625 + 2 * (0.125 + 0.25)
    assert estimate.starting_seconds == 5.0 + 3.0
    every = (recording, optimising, search, evidence)
    assert estimate.all_seconds == 8.0 + sum(map(estimate.seconds, every))
    assert estimate.all_transformer_calls == 2 * (36 + 40 + 7)
    heat = StageCost("first heat", 5, 20, 50)
    assert estimate.steps(heat) == 45
    assert estimate.transformer_calls(heat) == 2 * 18
    assert estimate.ends_early
    assert not replace(estimate, stages=(recording, optimising, evidence)).ends_early
