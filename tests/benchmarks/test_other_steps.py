"""The benchmark of other steps, at toy size: which schedules it compares, and in which runs."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from otcache_policies import GramPolicy, GramTable, Schedule, UniformPolicy, transfer

from otcache_plugin.evaluation.outputs import generate_outputs
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.models.setups import ModelSetup

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def other_steps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, with documents of 10 steps."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import other_steps

    monkeypatch.setattr(other_steps, "STEPS", 10)
    return other_steps


@pytest.fixture
def setup(other_steps: ModuleType) -> ModelSetup:
    """One of the exact flows to develop on."""
    setup: ModelSetup = other_steps.DEVELOPMENT["flow-2"]()
    return setup


def test_four_schedules_of_every_budget(other_steps: ModuleType, setup: ModelSetup) -> None:
    runs = (
        other_steps.Run("6 steps", 6, (3, 4)),
        other_steps.Run("shift x 2", 10, (4,), shift=2.0),
        other_steps.Run("strength 0.6", 10, (3,), strength=0.6),
    )
    scheduler = setup.pipe.scheduler
    raced = {budget: UniformPolicy(10).schedule(budget) for budget in range(2, 11)}
    rows = other_steps.measure(setup, raced, runs, 2, 3, 0.1)
    assert setup.pipe.scheduler is scheduler
    assert [(row.run, row.budget, row.pairs) for row in rows] == [
        ("6 steps", 3, 3),
        ("6 steps", 4, 3),
        ("6 steps", None, 3),
        ("shift x 2", 4, 3),
        ("shift x 2", None, 3),
        ("strength 0.6", 3, 3),
        ("strength 0.6", None, 3),
    ]
    three, four, mean = rows[:3]
    assert mean.interpolated == pytest.approx((three.interpolated + four.interpolated) / 2)
    of_a_budget = [row for row in rows if row.budget is not None]
    for row, steps in zip(of_a_budget, (6, 6, 10, 6), strict=True):
        assert list(row.schedules) == ["interpolated", "recorded", "carried over", "raced"]
        for schedule in row.schedules.values():
            assert (len(schedule), schedule[0], schedule[-1]) == (row.budget, 0, steps - 1)
        difference = row.interpolated - row.carried_over
        assert row.to_carried_over.mean == pytest.approx(difference, abs=1e-9)
        assert row.to_recorded.mean == pytest.approx(row.interpolated - row.recorded, abs=1e-9)
        assert row.to_raced.mean == pytest.approx(row.interpolated - row.raced, abs=1e-9)


def test_which_schedules_are_compared(other_steps: ModuleType) -> None:
    rng = np.random.default_rng(0)

    def table(steps: int) -> GramTable:
        velocities = rng.normal(size=(2, steps, 32)).cumsum(axis=1)
        grams = velocities @ velocities.transpose(0, 2, 1)
        return GramTable(grams.astype(np.float32), np.linspace(1, 0, steps + 1))

    document, own = GramPolicy(table(10)), GramPolicy(table(5))
    sigmas = own.table.sigmas
    served = {6: Schedule([0, 1, 2, 3, 5, 9], 10, [1, 1, 1, 2, 2])}
    interpolated, recorded, carried, raced = other_steps.four_schedules(document, own, served, 3)
    assert interpolated == document.schedule_at(3, sigmas, np.diff(sigmas))
    assert recorded == own.schedule(3)
    assert carried == transfer(document.schedule(6), document.table.sigmas, sigmas, 3)
    assert raced == transfer(served[6], document.table.sigmas, sigmas, 3)


def test_what_a_standard_calibration_serves_is_read_from_its_results(
    other_steps: ModuleType,
) -> None:
    """Of every model to develop on, at every budget that the runs' shares come to."""
    for model in other_steps.DEVELOPMENT:
        served = other_steps.raced_schedules(model)
        assert list(served) == list(range(8, 21))
        for budget, schedule in served.items():
            assert (schedule.budget, schedule.num_inference_steps) == (budget, 50)


def test_image_to_image_begins_at_a_noisy_picture(
    other_steps: ModuleType, setup: ModelSetup
) -> None:
    run = other_steps.Run("strength 0.6", 10, (3,), strength=0.6)
    pairs = setup.held_out_pairs(2)
    arguments = other_steps.Calls(setup, run).arguments(pairs)
    assert arguments["num_inference_steps"] == 6
    np.testing.assert_allclose(arguments["sigmas"], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    # The scheduler shifts by 1.87: 1.87 * 0.6 / (1 + 0.87 * 0.6).
    level = 1.122 / 1.522
    others = [Pair(pair.prompt, pair.seed + other_steps.OTHER_PICTURES) for pair in pairs]
    pictures = generate_outputs(setup.pipe, others, {"num_inference_steps": 10}).latents
    noise = (arguments["latents"] - (1 - level) * pictures) / level
    for pair, each in zip(pairs, noise, strict=True):
        generator = torch.Generator().manual_seed(pair.seed)
        expected = torch.randn(each.shape, generator=generator)
        torch.testing.assert_close(each, expected, atol=1e-5, rtol=0)
