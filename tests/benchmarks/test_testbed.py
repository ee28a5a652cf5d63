"""The second test-bed: there, small, a Wan with guidance as two calls, and its pairs kept apart."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from diffusers import WanPipeline

import otcache_plugin
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.prompts.files import Prompts, require_disjoint

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tools" / "testbed"
STEPS = 50


@pytest.fixture(scope="module")
def setup() -> ModelSetup:
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.models import DEVELOPMENT
    finally:
        sys.path.remove(str(ROOT))
    return DEVELOPMENT["testbed"]()


def draw(setup: ModelSetup, pairs: list[Pair], steps: int = STEPS) -> torch.Tensor:
    """What a user's call gives: `(N, 1, 3, 32, 32)`, one frame each."""
    generators = [torch.Generator().manual_seed(pair.seed) for pair in pairs]
    frames: torch.Tensor = setup.pipe(
        [pair.prompt for pair in pairs],
        generator=generators,
        num_inference_steps=steps,
        output_type="pt",
        **setup.call_arguments,
    ).frames
    return frames


def test_it_is_a_wan_with_a_shift_of_its_own(setup: ModelSetup) -> None:
    assert isinstance(setup.pipe, WanPipeline)
    assert setup.pipe.scheduler.config.shift == 3.0
    modules = [part for part in setup.pipe.components.values() if isinstance(part, torch.nn.Module)]
    assert {module.dtype for module in modules} == {torch.float32}
    assert not any(module.training for module in modules)


def test_its_folder_is_small_and_data_alone() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4 * 2**20
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".safetensors", ".txt", ".md"}


def test_held_out_pairs_share_neither_prompt_nor_seed_with_calibration(setup: ModelSetup) -> None:
    require_disjoint(Prompts(setup.calibration_prompts), Prompts(setup.held_out_prompts))
    calibration, held_out = setup.calibration_pairs(200), setup.held_out_pairs(200)
    assert not {pair.seed for pair in calibration} & {pair.seed for pair in held_out}
    assert not {pair.prompt for pair in calibration} & {pair.prompt for pair in held_out}


def test_every_word_of_its_prompts_is_known(setup: ModelSetup) -> None:
    tokenizer: Any = setup.pipe.tokenizer
    prompts = [*setup.calibration_prompts, *setup.held_out_prompts]
    ids = tokenizer(prompts).input_ids
    assert not any(tokenizer.unk_token_id in each for each in ids)
    # Seven words and the end.
    assert {len(each) for each in ids} == {8}
    assert setup.call_arguments["max_sequence_length"] == 8


def test_guidance_is_two_calls_of_the_transformer_per_step(setup: ModelSetup) -> None:
    assert setup.guidance == {"guidance_scale": 3.5}
    batches: list[int] = []
    handle = setup.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    pictures = draw(setup, setup.held_out_pairs(3), steps=5)
    handle.remove()
    assert batches == [3] * 10
    assert pictures.shape == (3, 1, 3, 32, 32)
    assert pictures.isfinite().all()


def test_the_prompt_decides_what_is_drawn(setup: ModelSetup) -> None:
    # The sky is the upper third; at noon it is lit, at night it is not.
    noon, night = draw(
        setup, [Pair(f"red house left in desert at {time}", 7) for time in ("noon", "night")]
    )
    assert noon[..., :10, :].mean() > 0.5
    assert night[..., :10, :].mean() < 0.3


def test_with_every_step_computed_the_run_is_the_plain_one(setup: ModelSetup) -> None:
    pairs = setup.held_out_pairs(2)
    plain = draw(setup, pairs)
    cache_dit.enable_cache(setup.pipe, policy="uniform", budget=STEPS, executor="velocity")
    try:
        cached = draw(setup, pairs)
        report = otcache_plugin.summary(setup.pipe)
    finally:
        cache_dit.disable_cache(setup.pipe)
    assert report is not None
    assert report.computed_steps == tuple(range(STEPS))
    assert torch.equal(cached, plain)
