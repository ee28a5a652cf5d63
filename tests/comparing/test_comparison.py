"""The numbers are what an independent computation gives; the pipeline stays as it was."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparison_helpers import PAIRS, STEPS, SilentProgress
from otcache_policies import BudgetError, FieldError, Schedule
from otcache_registry import DocumentNotFoundError, StoredPolicy
from otcache_registry.documents import bundled
from scipy import stats
from stored_policies import meancache_of, otcache_of

import otcache_plugin
from otcache_plugin.comparing import comparison
from otcache_plugin.comparing.comparison import compare
from otcache_plugin.comparing.results import ComparisonResult, ComparisonSettings
from otcache_plugin.errors import ExecutionError, PipelineError
from otcache_plugin.evaluation.outputs import Outputs, generate
from otcache_plugin.models.exact_flow import ExactFlowSettings, load_exact_flow_pipeline
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.origins.finding import find_origin


def pictures_of(setup: ModelSetup, schedule: Schedule | None) -> torch.Tensor:
    """Pictures of the held-out pairs, one pipeline call each, without any helper of ours."""
    if schedule is not None:
        otcache_plugin.enable_cache(setup.pipe, policy=schedule)
    try:
        pictures = [
            setup.pipe(
                pair.prompt,
                num_inference_steps=STEPS,
                generator=torch.Generator().manual_seed(pair.seed),
                output_type="pt",
            ).images[0]
            for pair in setup.held_out_pairs(PAIRS)
        ]
    finally:
        if schedule is not None:
            otcache_plugin.disable_cache(setup.pipe)
    return torch.stack(pictures)


def test_every_budget_with_every_method(compared: ComparisonResult) -> None:
    assert [(row.budget, row.method) for row in compared.rows] == [
        (budget, method) for budget in (8, 10, 15) for method in ("uniform", "meancache", "otcache")
    ]


def test_schedules_are_the_policies(compared: ComparisonResult, small_stored: StoredPolicy) -> None:
    otcache, meancache = otcache_of(small_stored), meancache_of(small_stored)
    for budget in (8, 10, 15):
        assert compared.row("otcache", budget).schedule == otcache.schedule(budget)
        assert compared.row("meancache", budget).schedule == meancache.schedule(budget)
    assert compared.row("otcache", 8).schedule == otcache.anchor


def test_uniform_looks_back_by_the_same_rule(
    compared: ComparisonResult, small_stored: StoredPolicy
) -> None:
    schedule = compared.row("uniform", 8).schedule
    assert schedule.computed_steps == (0, 3, 5, 8, 11, 14, 16, 19)  # 19/7 apart, rounded
    graph = meancache_of(small_stored)
    assert schedule.look_backs == graph.edges.look_backs(schedule.computed_steps, graph.settings)
    assert compared.policy.settings == graph.settings
    for look_back, words in ((None, "edge table finds best"), (2, "look-back 2 on every segment")):
        settings = replace(graph.settings, look_back=look_back)
        policy = replace(compared.policy, settings=settings)
        assert words in replace(compared, policy=policy).look_back_rule


def test_psnr_by_hand(compared: ComparisonResult, small_setup: ModelSetup) -> None:
    full = pictures_of(small_setup, None).double()
    for row in compared.rows:
        own = pictures_of(small_setup, row.schedule).double()
        for index in range(PAIRS):
            error = ((own[index] - full[index]) ** 2).mean().item()
            assert row.psnr[index] == pytest.approx(-10 * math.log10(error), abs=0.05)


def test_ssim_is_of_each_picture(compared: ComparisonResult) -> None:
    row = compared.row("uniform", 8)
    assert row.ssim.shape == (PAIRS,)
    assert np.all(row.ssim <= 1)
    closest = compared.row("meancache", 15)
    assert closest.ssim.mean() > row.ssim.mean()


def test_gain_is_a_paired_interval(compared: ComparisonResult) -> None:
    for budget in (8, 10):
        otcache = compared.row("otcache", budget).psnr
        meancache = compared.row("meancache", budget).psnr
        gain = compared.gain(budget)
        assert gain.mean == pytest.approx(np.mean(otcache - meancache))
        if np.array_equal(otcache, meancache):
            assert (gain.low, gain.high) == (0, 0)
            continue
        expected = stats.ttest_rel(otcache, meancache).confidence_interval(0.95)
        assert (gain.low, gain.high) == pytest.approx((expected.low, expected.high))


def test_above_the_reference_otcache_is_meancache(compared: ComparisonResult) -> None:
    gain = compared.gain(15)
    assert (gain.mean, gain.low, gain.high, gain.win_rate) == (0, 0, 0, 0.5)


def test_times_and_limits(compared: ComparisonResult) -> None:
    assert compared.timed_pairs == 2
    assert compared.full_seconds > 0
    for row in compared.rows:
        assert row.limit == pytest.approx(STEPS / row.budget)
        assert row.transformer_calls == row.budget  # no guidance: one call per step
        assert row.seconds > 0
        assert math.isfinite(row.speedup)


def test_speedup_above_its_limit_is_disturbed(compared: ComparisonResult) -> None:
    for factor, disturbed in ((0.9, False), (1.1, True)):
        rows = tuple(replace(row, speedup=factor * row.limit) for row in compared.rows)
        assert replace(compared, rows=rows).disturbed is disturbed


def test_prompts_of_the_calibration(
    small_setup: ModelSetup,
    quick_settings: ComparisonSettings,
    compared: ComparisonResult,
) -> None:
    assert compared.unseen
    other = replace(small_setup, calibration_prompts=small_setup.calibration_prompts[1:])
    quick = replace(quick_settings, pairs=2, rounds=1, budgets=(8,))
    assert not compare(other, quick, SilentProgress()).unseen


def test_the_pipeline_is_as_before(compared: ComparisonResult, small_setup: ModelSetup) -> None:
    again = generate(small_setup.pipe, compared.pairs, {"num_inference_steps": STEPS})
    assert torch.equal(again, compared.full_pictures)
    with pytest.raises(PipelineError, match="no policy is enabled"):
        otcache_plugin.summary(small_setup.pipe)


def test_progress_is_complete(small_setup: ModelSetup, quick_settings: ComparisonSettings) -> None:
    progress = SilentProgress()
    compare(small_setup, replace(quick_settings, pairs=2, rounds=1, budgets=(8,)), progress)
    assert list(progress.stages.values()) == [[4, 4], [4, 4]]
    # Two pictures each of all steps and of three methods' eight, generated once and timed once.
    steps = 2 * (STEPS + 3 * 8)
    assert list(progress.steps.values()) == [steps, steps]
    assert [(each.stage, each.calls, each.denoising_steps) for each in progress.planned] == [
        (stage, 4, steps) for stage in progress.stages
    ]


def test_figures_as_plain_values(compared: ComparisonResult) -> None:
    figures = compared.to_dict()
    row = next(each for each in figures["rows"] if each["method"] == "otcache")
    assert row["psnr"] == pytest.approx(compared.row("otcache", 8).psnr.mean())
    assert row["computed_steps"][0] == 0
    assert row["pairs"] == len(figures["pairs"]) == PAIRS
    assert [each["budget"] for each in figures["otcache_minus_meancache_psnr"]] == [8, 10, 15]


@pytest.fixture
def bundled_folder(small_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in which the small policy is the only bundled one."""
    shutil.copytree(small_policy, tmp_path / "bundled" / "small")
    monkeypatch.setattr(bundled, "BUNDLED_FOLDER", tmp_path / "bundled")
    return tmp_path / "bundled"


def test_the_bundled_policy_by_name(
    small_setup: ModelSetup,
    quick_settings: ComparisonSettings,
    compared: ComparisonResult,
    bundled_folder: Path,
) -> None:
    by_name = compare(small_setup, replace(quick_settings, policy="otcache"), SilentProgress())
    assert by_name.source == "bundled:small"
    for own, row in zip(by_name.rows, compared.rows, strict=True):
        assert own.schedule == row.schedule
        assert torch.equal(own.pictures, row.pictures)


def test_no_bundled_policy(
    small_setup: ModelSetup, quick_settings: ComparisonSettings, bundled_folder: Path
) -> None:
    shutil.rmtree(bundled_folder / "small")
    with pytest.raises(DocumentNotFoundError, match="otcache calibrate exact-flow"):
        compare(small_setup, replace(quick_settings, policy="otcache"), SilentProgress())


@pytest.mark.parametrize("pairs", [1, 0, -3])
def test_too_few_pairs(pairs: int) -> None:
    with pytest.raises(FieldError, match=rf"pairs={pairs}: .*two pairs or more\. Use pairs=2"):
        ComparisonSettings(pairs=pairs)


def test_policy_of_another_model(
    quick_settings: ComparisonSettings, small_setup: ModelSetup
) -> None:
    pipe = load_exact_flow_pipeline(ExactFlowSettings(scenes=201))
    other = replace(small_setup, pipe=pipe, origin=find_origin(pipe))
    with pytest.raises(FieldError, match=r"policy=.*scenes200.*scenes201.*otcache calibrate"):
        compare(other, quick_settings, SilentProgress())


def test_no_such_folder(small_setup: ModelSetup, tmp_path: Path) -> None:
    with pytest.raises(DocumentNotFoundError, match=r"no policy\.json there"):
        compare(small_setup, ComparisonSettings(policy=str(tmp_path / "none")), SilentProgress())


def test_budget_that_the_policy_does_not_serve(
    small_setup: ModelSetup, quick_settings: ComparisonSettings
) -> None:
    progress = SilentProgress()
    with pytest.raises(BudgetError, match="below the smallest budget 8"):
        compare(small_setup, replace(quick_settings, budgets=(8, 7)), progress)
    assert progress.stages == {}


def test_switched_off(
    small_setup: ModelSetup,
    quick_settings: ComparisonSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTCACHE_DISABLE", "1")
    otcache_plugin.uninstall()
    try:
        with pytest.raises(FieldError, match=r"OTCACHE_DISABLE='1': .*Unset OTCACHE_DISABLE"):
            compare(small_setup, quick_settings, SilentProgress())
    finally:
        otcache_plugin.install()


def test_a_run_that_does_not_go_as_planned(
    small_setup: ModelSetup,
    quick_settings: ComparisonSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = otcache_plugin.summary
    monkeypatch.setattr(
        otcache_plugin, "summary", lambda pipe: replace(original(pipe), computed_steps=(0,))
    )
    with pytest.raises(ExecutionError, match=r"uniform did not compute its schedule"):
        compare(small_setup, replace(quick_settings, pairs=2), SilentProgress())


def test_interrupted(
    small_setup: ModelSetup,
    quick_settings: ComparisonSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def interrupted(*arguments: object) -> Outputs:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return Outputs(torch.zeros(2, 4), torch.zeros(2, 1, 3, 32, 32))

    monkeypatch.setattr(comparison, "generate_outputs", interrupted)
    planned = replace(
        otcache_plugin.RunReport("schedule", "velocity"),
        planned_steps=(0, 3, 5, 8, 11, 14, 16, 19),
        computed_steps=(0, 3, 5, 8, 11, 14, 16, 19),
    )
    original = otcache_plugin.summary
    monkeypatch.setattr(otcache_plugin, "summary", lambda pipe: planned)
    with pytest.raises(KeyboardInterrupt):
        compare(small_setup, replace(quick_settings, pairs=2), SilentProgress())
    with pytest.raises(PipelineError, match="no policy is enabled"):
        original(small_setup.pipe)
