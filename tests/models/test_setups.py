"""Set-ups keep calibration and evidence apart: other prompts and other seeds."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from otcache_plugin.errors import ArgumentError, UnknownNameError
from otcache_plugin.models.exact_flow import ExactFlowPipeline, ExactFlowSettings
from otcache_plugin.models.setups import HELD_OUT_SEEDS, ModelSetup, load_setup


@pytest.fixture(scope="module")
def exact_flow() -> ModelSetup:
    return load_setup("exact-flow")


def test_the_exact_flow_is_set_up(exact_flow: ModelSetup) -> None:
    assert exact_flow.name == "exact-flow"
    assert isinstance(exact_flow.pipe, ExactFlowPipeline)
    assert exact_flow.pipe.otcache_model == ("exact-flow", ExactFlowSettings().revision)
    prompts = [pair.prompt for pair in exact_flow.held_out_pairs(2)]
    images = exact_flow.pipe(prompts, num_inference_steps=2, output_type="pt").images
    assert images.shape == (2, 3, 32, 32)


def test_prompts_are_disjoint(exact_flow: ModelSetup) -> None:
    calibration, held_out = exact_flow.calibration_prompts, exact_flow.held_out_prompts
    assert set(calibration).isdisjoint(held_out)
    assert len(set(calibration)) == len(calibration)
    assert len(set(held_out)) == len(held_out) > 32


def test_every_prompt_can_be_drawn(exact_flow: ModelSetup) -> None:
    for prompt in (*exact_flow.calibration_prompts, *exact_flow.held_out_prompts):
        assert len(exact_flow.pipe.transformer.condition(prompt).points) > 0


def test_seeds_are_disjoint(exact_flow: ModelSetup) -> None:
    held_out = exact_flow.held_out_pairs(300)
    assert min(pair.seed for pair in held_out) == HELD_OUT_SEEDS
    seen = [exact_flow.calibration_pairs(300, seed) for seed in (0, 1, 99)]
    seeds = [pair.seed for pairs in (*seen, held_out) for pair in pairs]
    assert len(set(seeds)) == 4 * 300
    assert max(pair.seed for pairs in seen for pair in pairs) < HELD_OUT_SEEDS


@pytest.mark.parametrize(("count", "seed"), [(96, 100), (96, -1), (10_001, 99)])
def test_a_seed_that_would_meet_the_held_out_ones_is_refused(
    exact_flow: ModelSetup, count: int, seed: int
) -> None:
    with pytest.raises(ArgumentError, match=f"seed={seed}: .* Use 0 … 9") as caught:
        exact_flow.calibration_pairs(count, seed)
    assert caught.value.field == "seed"


def test_pairs_are_spread_over_the_prompts(exact_flow: ModelSetup) -> None:
    prompts = exact_flow.held_out_prompts
    few = exact_flow.held_out_pairs(5)
    assert [pair.prompt for pair in few] == list(prompts[:5])
    assert exact_flow.held_out_pairs(9)[:5] == few
    many = exact_flow.held_out_pairs(2 * len(prompts))
    assert [pair.prompt for pair in many] == 2 * list(prompts)
    assert len(set(many)) == len(many)


def test_the_digest_is_the_prompts(exact_flow: ModelSetup) -> None:
    digest = exact_flow.prompts_digest
    assert len(digest) == 64
    prompts = exact_flow.calibration_prompts
    for others in (prompts[:-1], prompts[::-1], (*prompts[:-1], "something else")):
        assert replace(exact_flow, calibration_prompts=others).prompts_digest != digest
    assert replace(exact_flow, held_out_prompts=()).prompts_digest == digest
    held_out = "\n".join(exact_flow.held_out_prompts).encode()
    assert exact_flow.held_out_digest == hashlib.sha256(held_out).hexdigest()


def test_an_unknown_model_lists_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"model='flux'.*embedded or exact-flow"):
        load_setup("flux")
