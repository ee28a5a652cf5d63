"""The numbers are what an independent computation gives; the pipeline stays as it was."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparison_helpers import BUDGETS, METHODS, PAIRS, STEPS, SilentProgress
from otcache_policies import FieldError, Schedule
from otcache_registry import DocumentNotFoundError, StoredPolicy
from otcache_registry.documents import bundled
from PIL import Image
from scipy import stats
from stored_policies import meancache_of, otcache_of

import otcache_plugin
from otcache_plugin.calibration.errors import OtherSettingsError
from otcache_plugin.comparing import comparison, measuring
from otcache_plugin.comparing.comparison import compare
from otcache_plugin.comparing.contenders.policies import PolicyMethod
from otcache_plugin.comparing.contenders.tuning import Configured
from otcache_plugin.comparing.differences import to_baseline
from otcache_plugin.comparing.methods import Bench, Variant
from otcache_plugin.comparing.report import look_back_rule
from otcache_plugin.comparing.results import ComparisonResult
from otcache_plugin.comparing.settings import ComparisonSettings
from otcache_plugin.comparing.timing import Timed
from otcache_plugin.errors import PipelineError, UnknownNameError
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


def schedule_of(compared: ComparisonResult, method: str, budget: int) -> Schedule:
    """What a method really computed."""
    ran = compared.row(method, budget).ran
    assert ran is not None
    return Schedule(ran.computed_steps, STEPS, ran.look_backs)


def test_every_budget_with_every_method(compared: ComparisonResult) -> None:
    assert [(row.method, row.budget) for row in compared.rows] == [
        (method, budget) for method in METHODS for budget in BUDGETS
    ]
    assert compared.full.variant == Variant("full", "all 20 steps", 20)
    assert compared.not_run == ()


def test_schedules_are_the_policies(compared: ComparisonResult, small_stored: StoredPolicy) -> None:
    otcache, meancache = otcache_of(small_stored), meancache_of(small_stored)
    for budget in BUDGETS:
        assert schedule_of(compared, "otcache", budget) == otcache.schedule(budget)
        assert schedule_of(compared, "meancache", budget) == meancache.schedule(budget)
    assert schedule_of(compared, "otcache", 8) == otcache.anchor


def test_uniform_looks_back_by_the_same_rule(
    compared: ComparisonResult, small_stored: StoredPolicy
) -> None:
    schedule = schedule_of(compared, "uniform", 8)
    assert schedule.computed_steps == (0, 3, 5, 8, 11, 14, 16, 19)  # 19/7 apart, rounded
    graph, policy = meancache_of(small_stored), otcache_of(small_stored)
    assert schedule.look_backs == graph.edges.look_backs(schedule.computed_steps, graph.settings)
    assert policy.settings == graph.settings
    for look_back, words in ((None, "edge table finds best"), (2, "look-back 2 on every segment")):
        settings = replace(graph.settings, look_back=look_back)
        assert words in look_back_rule(replace(policy, settings=settings))


def test_psnr_by_hand(compared: ComparisonResult, small_setup: ModelSetup) -> None:
    full = pictures_of(small_setup, None).double()
    for row in compared.rows:
        assert row.budget is not None
        own = pictures_of(small_setup, schedule_of(compared, row.method, row.budget)).double()
        for index in range(PAIRS):
            error = ((own[index] - full[index]) ** 2).mean().item()
            assert row.values["psnr"][index] == pytest.approx(-10 * math.log10(error), abs=0.05)


def test_ssim_is_of_each_picture(compared: ComparisonResult) -> None:
    ssim = compared.row("uniform", 8).values["ssim"]
    assert ssim.shape == (PAIRS,)
    assert np.all(ssim <= 1)
    assert compared.row("meancache", 15).mean("ssim") > ssim.mean()


def test_the_first_pictures_are_kept(compared: ComparisonResult) -> None:
    pictures = generate(compared.setup.pipe, compared.pairs, {"num_inference_steps": STEPS})
    assert len(compared.full.pictures) == 6
    for path, expected in zip(compared.full.pictures, pictures, strict=False):
        with Image.open(path) as kept:
            np.testing.assert_allclose(kept, expected.permute(1, 2, 0) * 255, atol=0.51)


def test_differences_are_paired_intervals(compared: ComparisonResult) -> None:
    for budget in (8, 10):
        row, other = compared.row("otcache", budget), compared.row("meancache", budget)
        otcache, meancache = row.values["psnr"], other.values["psnr"]
        found = to_baseline(compared, row, "psnr")
        assert found is not None
        assert found.at == f"{budget} steps"
        assert found.paired.mean == pytest.approx(np.mean(otcache - meancache))
        expected = stats.ttest_rel(otcache, meancache).confidence_interval(0.95)
        if not np.array_equal(otcache, meancache):
            ends = (found.paired.low, found.paired.high)
            assert ends == pytest.approx((expected.low, expected.high))


def test_above_the_reference_otcache_is_meancache(compared: ComparisonResult) -> None:
    found = to_baseline(compared, compared.row("otcache", 15), "psnr")
    assert found is not None
    paired = found.paired
    assert (paired.mean, paired.low, paired.high, paired.win_rate) == (0, 0, 0, 0.5)
    assert found.verdict == "tie"


def test_times_limits_and_calls(compared: ComparisonResult) -> None:
    assert compared.timed_pairs == 2
    assert compared.full.turns.shape == (2, 2)
    assert compared.full.counts.transformer_calls == STEPS
    for row in compared.rows:
        assert row.budget is not None
        assert compared.limit(row) == pytest.approx(STEPS / row.budget)
        assert row.counts.transformer_calls == row.budget  # no guidance: one call per step
        assert row.seconds > 0
        ratios = compared.full.turns / row.turns
        assert (row.loop_speedup, row.speedup) == tuple(np.median(ratios, axis=0))
        assert row.peak_memory is None  # on a CPU


def test_operations_are_a_constant_and_one_for_each_computed_step(
    compared: ComparisonResult,
) -> None:
    eight, fifteen, full = (
        each.counts.flops
        for each in (compared.row("otcache", 8), compared.row("uniform", 15), compared.full)
    )
    step = (full - eight) / (STEPS - 8)
    assert step > 0
    assert (fifteen - eight) / (15 - 8) == pytest.approx(step)


def test_calibration_cost_is_the_documents(
    compared: ComparisonResult, small_stored: StoredPolicy
) -> None:
    calibration = small_stored.document.calibration
    assert calibration is not None
    assert compared.row("otcache", 8).calibration_steps == calibration.denoising_steps
    assert compared.row("meancache", 8).calibration_steps is None


def test_speedup_above_its_limit_is_disturbed(compared: ComparisonResult) -> None:
    for factor, disturbed in ((0.9, False), (1.1, True)):
        rows = tuple(
            replace(row, speedups=np.full(2, factor * STEPS / (row.budget or 1)))
            for row in compared.rows
        )
        assert replace(compared, rows=rows).disturbed is disturbed


def test_prompts_of_the_calibration(compared: ComparisonResult, small_setup: ModelSetup) -> None:
    assert compared.unseen
    other = replace(small_setup, calibration_prompts=small_setup.calibration_prompts[1:])
    assert not replace(compared, setup=other).unseen
    assert not replace(compared, document=None).unseen


def test_the_pipeline_is_as_before(compared: ComparisonResult, small_setup: ModelSetup) -> None:
    again = generate(small_setup.pipe, compared.pairs, {"num_inference_steps": STEPS})
    assert torch.equal(again, pictures_of(small_setup, None))
    with pytest.raises(PipelineError, match="no policy is enabled"):
        otcache_plugin.summary(small_setup.pipe)


@pytest.fixture
def brief(quick_settings: ComparisonSettings) -> ComparisonSettings:
    """One budget, two pairs, timed once."""
    return replace(quick_settings, pairs=2, rounds=1, budgets=(8,))


def test_progress_is_complete_and_nothing_is_done_twice(
    small_setup: ModelSetup,
    brief: ComparisonSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    progress = SilentProgress()
    first = compare(small_setup, brief, tmp_path, progress)
    # Two pictures each of all steps and of three methods' eight; timed without decoding and with.
    steps = 2 * (STEPS + 3 * 8)
    assert list(progress.stages.values()) == [[4, 4], [4, 4]]
    assert list(progress.steps.values()) == [steps, 2 * steps]
    assert [(each.stage, each.calls, each.denoising_steps) for each in progress.planned] == [
        (comparison.GENERATING, 4, steps),
        (comparison.TIMING, 4, 2 * steps),
    ]
    assert progress.before == 0

    monkeypatch.setattr(type(small_setup.pipe), "__call__", lambda *_, **__: pytest.fail("ran"))
    again = SilentProgress()
    second = compare(small_setup, brief, tmp_path, again)
    assert again.before == 3 * steps
    for row, other in zip((first.full, *first.rows), (second.full, *second.rows), strict=True):
        assert row.variant == other.variant
        assert row.counts == other.counts
        np.testing.assert_array_equal(row.turns, other.turns)
        np.testing.assert_array_equal(row.values["psnr"], other.values["psnr"])


def test_a_method_with_settings_is_not_measured_again(
    small_setup: ModelSetup,
    brief: ComparisonSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = PolicyMethod.variants

    def configured(method: PolicyMethod, bench: Bench) -> list[Variant]:
        settings = (("order", 1), ("threshold", 0.1))
        return [
            Configured(each.method, each.setting, each.budget, each.rests_on, settings)
            for each in plain(method, bench)
        ]

    monkeypatch.setattr(PolicyMethod, "variants", configured)
    first = compare(small_setup, brief, tmp_path, SilentProgress())
    assert any(isinstance(row.variant, Configured) for row in first.rows)
    monkeypatch.setattr(type(small_setup.pipe), "__call__", lambda *_, **__: pytest.fail("ran"))
    second = compare(small_setup, brief, tmp_path, SilentProgress())
    assert [row.variant for row in second.rows] == [row.variant for row in first.rows]


def test_times_are_taken_again_and_nothing_else(
    small_setup: ModelSetup,
    brief: ComparisonSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = compare(small_setup, brief, tmp_path, SilentProgress())
    monkeypatch.setattr(measuring, "generate_outputs", lambda *_: pytest.fail("ran"))
    monkeypatch.setattr(comparison, "time_variant", lambda *_: Timed(3.0, 4.0, None))
    again = replace(brief, rounds=2, time_again=True)
    second = compare(small_setup, again, tmp_path, SilentProgress())
    assert second.full.turns.tolist() == second.rows[0].turns.tolist() == [[3, 4], [3, 4]]
    assert second.full.variant == first.full.variant
    # What was taken again is what counts from then on, and a third round joins it.
    monkeypatch.setattr(comparison, "time_variant", lambda *_: Timed(5.0, 6.0, None))
    third = compare(small_setup, replace(brief, rounds=3), tmp_path, SilentProgress())
    assert third.full.turns.tolist() == [[3, 4], [3, 4], [5, 6]]
    assert [row.values["psnr"].tolist() for row in third.rows] == [
        row.values["psnr"].tolist() for row in first.rows
    ]


def test_other_settings_are_refused(
    small_setup: ModelSetup, quick_settings: ComparisonSettings, compared: object, work: Path
) -> None:
    settings = replace(quick_settings, pairs=PAIRS - 1)
    words = rf"pairs=7: the comparison in .* was begun with {PAIRS}\. Use that again to go on"
    with pytest.raises(OtherSettingsError, match=words):
        compare(small_setup, settings, work, SilentProgress())
    other = replace(small_setup, call_arguments={"guidance_scale": 2.0})
    with pytest.raises(OtherSettingsError, match=r"call=.*2\.0.* was begun with \{\}"):
        compare(other, quick_settings, work, SilentProgress())


def test_interrupted_and_gone_on_with(
    small_setup: ModelSetup,
    brief: ComparisonSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[object] = []
    original = measuring.generate_outputs

    def interrupted(*arguments: Any) -> Outputs:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(measuring, "generate_outputs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(small_setup, brief, tmp_path, SilentProgress())
    with pytest.raises(PipelineError, match="no policy is enabled"):
        otcache_plugin.summary(small_setup.pipe)
    found = compare(small_setup, brief, tmp_path, SilentProgress())
    assert len(calls) == 5  # The full run and the first method's were kept, two are run now.
    assert [row.method for row in found.rows] == list(METHODS)


class Breaking:
    """A method of somebody else's that switches a policy on and then breaks."""

    name, label = "breaking", "breaks"

    def refusal(self, bench: Bench) -> None:
        return None

    def variants(self, bench: Bench) -> list[Variant]:
        return [Variant(self.name, "at once", None)]

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        eight = Variant("otcache", "8 steps", 8)
        method = PolicyMethod("otcache")
        (own,) = (each for each in method.variants(bench) if each.budget == eight.budget)
        with method.enabled(bench, own):
            raise ZeroDivisionError("by nothing")
            yield {}

    def calibration_steps(self, bench: Bench, variant: Variant) -> None:
        return None


def test_a_method_that_fails_is_listed_and_the_rest_goes_on(
    small_setup: ModelSetup,
    brief: ComparisonSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = comparison.chosen_methods(("meancache", "uniform"))
    monkeypatch.setattr(comparison, "chosen_methods", lambda _: [known[0], Breaking(), *known[1:]])
    found = compare(small_setup, brief, tmp_path, SilentProgress())
    assert [(each.label, each.setting, each.reason) for each in found.not_run] == [
        ("breaks", "at once", "ZeroDivisionError: by nothing")
    ]
    assert [row.method for row in found.rows] == ["meancache", "uniform"]
    with pytest.raises(PipelineError, match="no policy is enabled"):
        otcache_plugin.summary(small_setup.pipe)


def test_a_run_that_does_not_go_as_planned(
    small_setup: ModelSetup,
    brief: ComparisonSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = otcache_plugin.summary
    monkeypatch.setattr(
        otcache_plugin, "summary", lambda pipe: replace(original(pipe), computed_steps=(0,))
    )
    found = compare(small_setup, replace(brief, methods=("uniform",)), tmp_path, SilentProgress())
    assert found.rows == ()
    (uniform,) = found.not_run
    assert "uniform, 8 steps, did not compute its schedule" in uniform.reason


def test_a_budget_that_the_policy_does_not_serve(
    small_setup: ModelSetup, brief: ComparisonSettings, tmp_path: Path
) -> None:
    settings = replace(brief, methods=("otcache", "uniform"), budgets=(8, 7))
    found = compare(small_setup, settings, tmp_path, SilentProgress())
    assert [row.variant.key for row in found.rows] == [
        "otcache-8-steps",
        "uniform-8-steps",
        "uniform-7-steps",
    ]
    (left_out,) = found.not_run
    assert (left_out.method, left_out.setting) == ("otcache", "7 steps")
    assert "Use budget=8 … 20" in left_out.reason


@pytest.fixture
def bundled_folder(small_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in which the small policy is the only bundled one."""
    shutil.copytree(small_policy, tmp_path / "bundled" / "small")
    monkeypatch.setattr(bundled, "BUNDLED_FOLDER", tmp_path / "bundled")
    return tmp_path / "bundled"


def test_the_bundled_policy_by_name(
    small_setup: ModelSetup,
    brief: ComparisonSettings,
    compared: ComparisonResult,
    bundled_folder: Path,
) -> None:
    by_name = replace(brief, documents=())
    found = compare(small_setup, by_name, bundled_folder.parent / "work", SilentProgress())
    assert found.document is not None
    assert found.document.source == "bundled:small"
    for method in METHODS:
        assert schedule_of(found, method, 8) == schedule_of(compared, method, 8)


def test_without_a_document(
    small_setup: ModelSetup, brief: ComparisonSettings, bundled_folder: Path
) -> None:
    shutil.rmtree(bundled_folder / "small")
    settings = replace(brief, documents=())
    found = compare(small_setup, settings, bundled_folder.parent / "work", SilentProgress())
    assert [row.method for row in found.rows] == ["uniform"]
    assert schedule_of(found, "uniform", 8).look_backs == (2,) * 7
    for each in found.not_run:
        assert "otcache calibrate exact-flow" in each.reason
    assert [each.method for each in found.not_run] == ["otcache", "meancache"]


@pytest.mark.parametrize("pairs", [1, 0, -3])
def test_too_few_pairs(pairs: int) -> None:
    with pytest.raises(FieldError, match=rf"pairs={pairs}: .*two pairs or more\. Use pairs=2"):
        ComparisonSettings(pairs=pairs)


@pytest.mark.parametrize(
    ("budgets", "problem"),
    [((51,), "budgets=51: not a number of steps"), ((8, 8), "stands there twice"), ((), "none")],
)
def test_budgets_that_are_none(budgets: tuple[int, ...], problem: str) -> None:
    with pytest.raises(FieldError, match=problem):
        ComparisonSettings(budgets=budgets)


def test_policy_of_another_model(
    brief: ComparisonSettings, small_setup: ModelSetup, tmp_path: Path
) -> None:
    pipe = load_exact_flow_pipeline(ExactFlowSettings(scenes=201))
    other = replace(small_setup, pipe=pipe, origin=find_origin(pipe))
    with pytest.raises(FieldError, match=r"revision=.*scenes201.*calibrated on .*scenes200"):
        compare(other, brief, tmp_path, SilentProgress())


def test_no_such_folder_and_no_such_method(
    small_setup: ModelSetup, brief: ComparisonSettings, tmp_path: Path
) -> None:
    settings = replace(brief, documents=(str(tmp_path / "none"),))
    with pytest.raises(DocumentNotFoundError, match=r"no policy\.json there"):
        compare(small_setup, settings, tmp_path, SilentProgress())
    with pytest.raises(UnknownNameError, match=r"methods='best': no such method\. Use full, otcac"):
        compare(small_setup, replace(brief, methods=("best",)), tmp_path, SilentProgress())


def test_switched_off(
    small_setup: ModelSetup,
    brief: ComparisonSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTCACHE_DISABLE", "1")
    otcache_plugin.uninstall()
    try:
        with pytest.raises(FieldError, match=r"OTCACHE_DISABLE='1': .*Unset OTCACHE_DISABLE"):
            compare(small_setup, brief, tmp_path, SilentProgress())
    finally:
        otcache_plugin.install()


def test_figures_as_plain_values(compared: ComparisonResult) -> None:
    figures = compared.to_dict()
    row = next(each for each in figures["rows"] if each["method"] == "otcache")
    assert row["means"]["psnr"] == pytest.approx(compared.row("otcache", 8).mean("psnr"))
    assert row["computed_steps"][0] == 0
    assert row["pairs"] == len(figures["pairs"]) == len(row["values"]["ssim"]) == PAIRS
    assert figures["full"]["speedup"] == 1.0
