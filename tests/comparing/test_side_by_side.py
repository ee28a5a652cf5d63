"""What was tried is what an independent run gives; the pipeline stays as it was."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparison_helpers import STEPS, SilentProgress
from otcache_policies import BudgetError, FieldError, OTCacheError, UniformPolicy
from otcache_registry import DocumentNotFoundError, StoredPolicy
from stored_policies import otcache_of
from tiny_text import make_ltx_with_text, make_wan_with_vae

import otcache_plugin
from otcache_plugin.comparing.settings import SideBySideSettings
from otcache_plugin.comparing.side_by_side import SideBySide, require_served, try_side_by_side
from otcache_plugin.errors import ArgumentError, ExecutionError, PipelineError
from otcache_plugin.evaluation.outputs import generate
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.origins.origin import ModelOrigin


@pytest.fixture(scope="session")
def settings(small_setup: ModelSetup, small_policy: Path) -> SideBySideSettings:
    prompts = small_setup.held_out_prompts[:2]
    return SideBySideSettings(prompts, str(small_policy), 9, STEPS, seed=3)


@pytest.fixture(scope="session")
def tried(small_setup: ModelSetup, settings: SideBySideSettings) -> SideBySide:
    return try_side_by_side(small_setup, settings, SilentProgress())


def test_what_was_computed(tried: SideBySide, small_stored: StoredPolicy) -> None:
    uniform, otcache = tried.rows
    assert (uniform.method, otcache.method) == ("uniform", "otcache")
    assert uniform.schedule == UniformPolicy(STEPS, look_back=2).schedule(9)  # as policy="uniform"
    assert otcache.schedule == otcache_of(small_stored).schedule(9)
    assert [row.transformer_calls for row in tried.rows] == [9, 9]  # there is no guidance
    assert tried.report.document == small_stored.source


def test_pictures_and_psnr_by_hand(tried: SideBySide, small_setup: ModelSetup) -> None:
    prompts, call = small_setup.held_out_prompts[:2], {"num_inference_steps": STEPS}
    pairs = [Pair(prompt, 3) for prompt in prompts]
    full = torch.cat([generate(small_setup.pipe, [pair], call) for pair in pairs])
    assert torch.equal(tried.full_pictures, full)
    for row in tried.rows:
        otcache_plugin.enable_cache(small_setup.pipe, policy=row.schedule)
        own = torch.cat([generate(small_setup.pipe, [pair], call) for pair in pairs])
        otcache_plugin.disable_cache(small_setup.pipe)
        assert torch.equal(row.pictures, own)
        for index in range(2):
            error = ((own[index].double() - full[index].double()) ** 2).mean().item()
            assert row.psnr[index] == pytest.approx(-10 * math.log10(error))
    assert not torch.equal(tried.rows[0].pictures, tried.rows[1].pictures)


def test_the_pipeline_is_as_before(tried: SideBySide, small_setup: ModelSetup) -> None:
    with pytest.raises(PipelineError, match="no policy is enabled"):
        otcache_plugin.summary(small_setup.pipe)


def test_progress_is_complete(small_setup: ModelSetup, settings: SideBySideSettings) -> None:
    progress = SilentProgress()
    try_side_by_side(small_setup, settings, progress)
    assert list(progress.stages.values()) == [[1, 1], [6, 6]]
    # Two prompts, each in full and with two policies of the budget.
    steps = [settings.budget, 2 * (STEPS + 2 * settings.budget)]
    assert list(progress.steps.values()) == steps
    assert [each.denoising_steps for each in progress.planned] == steps


def test_figures_as_plain_values(tried: SideBySide, small_setup: ModelSetup) -> None:
    figures = tried.to_dict()
    prompts = small_setup.held_out_prompts[:2]
    assert figures["pairs"] == [{"prompt": prompt, "seed": 3} for prompt in prompts]
    assert figures["frames"] == 1
    for figured, row in zip(figures["rows"], tried.rows, strict=True):
        assert figured["limit"] == pytest.approx(STEPS / 9)
        assert figured["psnr"] == pytest.approx(np.mean(figured["psnr_of_each"]))
        assert figured["ssim_of_each"] == row.ssim.tolist()


def test_uniform_alone(small_setup: ModelSetup, settings: SideBySideSettings) -> None:
    uniform = replace(settings, policy="uniform")
    require_served(small_setup, uniform)
    found = try_side_by_side(small_setup, uniform, SilentProgress())
    assert [row.method for row in found.rows] == ["uniform"]


@pytest.mark.parametrize(
    ("make", "size", "look_back"),
    [
        (make_ltx_with_text, {"height": 64, "width": 64, "num_frames": 9}, 2),
        (make_wan_with_vae, {"height": 16, "width": 32, "num_frames": 5}, 1),
    ],
    ids=["euler", "multistep"],
)
def test_a_video(make: Any, size: dict[str, int], look_back: int) -> None:
    """Its middle frame is shown and all are compared; uniform looks back where it may."""
    pipe, origin = make(), ModelOrigin("tiny/video", "0" * 40, "made here")
    setup = ModelSetup("tiny", pipe, size, {}, (), (), origin)
    settings = SideBySideSettings(("a red fox",), "uniform", 3, 6)
    found = try_side_by_side(setup, settings, SilentProgress())
    assert found.frames == size["num_frames"]
    (row,) = found.rows
    assert row.schedule == UniformPolicy(6, look_back).schedule(3)
    call = {"num_inference_steps": 6, "output_type": "pt", **size}
    frames = pipe("a red fox", generator=torch.Generator().manual_seed(0), **call).frames[0]
    assert torch.equal(found.full_pictures[0], frames[size["num_frames"] // 2])
    otcache_plugin.enable_cache(pipe, policy=row.schedule)
    own = pipe("a red fox", generator=torch.Generator().manual_seed(0), **call).frames[0]
    otcache_plugin.disable_cache(pipe)
    errors = [
        ((a.double() - b.double()) ** 2).mean().item() for a, b in zip(own, frames, strict=True)
    ]
    assert row.psnr[0] == pytest.approx(np.mean([-10 * math.log10(each) for each in errors]))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"prompts": ("  ",)}, ArgumentError, r"prompt='  ': no words in it"),
        ({"num_inference_steps": 1}, ArgumentError, r"num_inference_steps=1: below 2"),
        ({"budget": 1}, FieldError, r"budget=1: not a number of steps of the run\. Use 2 … 20"),
        ({"budget": 21}, FieldError, r"budget=21: "),
        ({"seed": -1}, ArgumentError, r"seed=-1: below 0"),
    ],
)
def test_what_cannot_be(
    settings: SideBySideSettings, changes: dict[str, Any], error: type[OTCacheError], words: str
) -> None:
    with pytest.raises(error, match=words):
        replace(settings, **changes)


def test_refused_before_anything_runs(
    small_setup: ModelSetup, settings: SideBySideSettings, tmp_path: Path
) -> None:
    for changes, error, words in (
        (
            {"budget": 7},
            BudgetError,
            r"budget=7: a speed-up of 2\.857.*7 of 20 steps",
        ),
        ({"policy": "gram"}, DocumentNotFoundError, "otcache calibrate exact-flow --policy gram"),
        ({"policy": str(tmp_path)}, DocumentNotFoundError, r"no policy\.json there"),
    ):
        with pytest.raises(error, match=words):
            require_served(small_setup, replace(settings, **changes))  # type: ignore[arg-type]


def test_switched_off(
    small_setup: ModelSetup, settings: SideBySideSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTCACHE_DISABLE", "1")
    otcache_plugin.uninstall()
    try:
        with pytest.raises(FieldError, match=r"OTCACHE_DISABLE='1': .*Unset OTCACHE_DISABLE"):
            try_side_by_side(small_setup, settings, SilentProgress())
    finally:
        otcache_plugin.install()


def test_a_run_that_does_not_go_as_planned(
    small_setup: ModelSetup, settings: SideBySideSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = otcache_plugin.summary
    monkeypatch.setattr(
        otcache_plugin, "summary", lambda pipe: replace(original(pipe), computed_steps=(0,))
    )
    with pytest.raises(ExecutionError, match="a run did not compute its steps"):
        try_side_by_side(small_setup, settings, SilentProgress())
