"""On which pipelines caches of others can be enabled, and the reasons why not on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from contender_runs import latents, run
from diffusers import WanPipeline, WanTransformer3DModel
from tiny_pipelines.common import euler_scheduler, quiet
from tiny_pipelines.wan import WAN_TRANSFORMER, wan_arguments

from otcache_plugin.comparing.contenders.attention_caches import (
    FasterCache,
    PyramidAttentionBroadcast,
)
from otcache_plugin.comparing.contenders.dbcache import DBCache, StepsMask
from otcache_plugin.comparing.contenders.diffusers_caches import (
    FirstBlockCache,
    SeaCache,
    TaylorSeerCache,
)
from otcache_plugin.comparing.contenders.magcache import MagCache
from otcache_plugin.comparing.contenders.observing import ObservedStep, observed_step
from otcache_plugin.comparing.contenders.tuning import Configured
from otcache_plugin.comparing.methods import Bench, Method
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.origins.origin import ModelOrigin

BLOCK_CACHES: tuple[Method, ...] = (
    DBCache("dbcache", "DBCache", (None,)),
    StepsMask("steps-mask", "steps mask", None),
    FirstBlockCache(),
    TaylorSeerCache(),
    MagCache(),
)
ATTENTION_CACHES: tuple[Method, ...] = (PyramidAttentionBroadcast(), FasterCache())


class WanOfPrompts(WanPipeline):
    """A tiny Wan from text to video, of two blocks, that has embeddings for every prompt."""

    def __call__(self, prompt: list[str], **arguments: Any) -> Any:
        return super().__call__(**{**wan_arguments(len(prompt)), **arguments})


@pytest.fixture
def wan() -> ModelSetup:
    torch.manual_seed(0)
    pipe = WanOfPrompts(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        scheduler=euler_scheduler(),
        transformer=WanTransformer3DModel(**WAN_TRANSFORMER).eval(),
    )
    return ModelSetup(
        "wan", quiet(pipe), {}, {}, ("a",), ("b",), ModelOrigin("wan", "0", "made here")
    )


def test_a_step_is_seen_once_and_then_kept(bench: Bench, wan: ModelSetup) -> None:
    step = observed_step(bench)
    assert step == ObservedStep(2, (1, 16, 32), ("cond", "uncond"), False)
    assert observed_step(Bench(wan, 2, (1,), bench.work)) == step


def test_a_wan_says_where_its_calls_belong(wan: ModelSetup, bench_of: Callable[..., Bench]) -> None:
    step = observed_step(bench_of(wan))
    assert step == ObservedStep(2, (1, 4, 2, 8, 8), ("cond", "uncond"), True)


@pytest.mark.parametrize("method", [*BLOCK_CACHES, *ATTENTION_CACHES], ids=lambda each: each.name)
def test_an_exact_flow_has_no_blocks(
    method: Method, exact_flow: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    reason = method.refusal(bench_of(exact_flow))
    assert reason is not None
    assert "no adapter for ExactFlowPipeline" in reason or "no enable_cache" in reason


@pytest.mark.parametrize(
    ("method", "name"), [(SeaCache(), "SeaCacheConfig"), (MagCache(), "MagCacheConfig")]
)
def test_a_cache_that_an_older_diffusers_lacks_is_no_error(
    method: Method, name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(diffusers, name, raising=False)
    monkeypatch.delitem(diffusers._class_to_module, name, raising=False)  # which brings it back
    assert f"has no {name}: a newer one does" in (method.refusal(bench) or "")


@pytest.mark.parametrize("method", ATTENTION_CACHES, ids=lambda each: each.name)
def test_attention_caches_take_one_call_a_step(
    method: Method, bench: Bench, embedded: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    assert "2 times a step" in (method.refusal(bench) or "")
    unguided = Bench(bench_of(embedded, true_cfg_scale=1.0).setup, 6, (3,), bench.work / "unguided")
    assert method.refusal(unguided) is None
    full, products = run(unguided)
    (variant,) = method.variants(unguided)
    with method.enabled(unguided, variant):
        cached, computed = run(unguided)
    assert 0.5 * products < computed < products
    assert not torch.equal(cached, full)
    assert torch.equal(latents(unguided), full)


def test_seacache_is_for_videos_whose_pipelines_say_which_step_it_is(
    bench: Bench, wan: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    method = SeaCache()
    assert "does not tell its caches which step" in (method.refusal(bench) or "")
    videos = bench_of(wan)
    assert method.refusal(videos) is None
    full, products = run(videos)
    computed = []
    for threshold in (0.0, 4.0):
        settings = {"order": 1, "in_a_row": 6, "threshold": threshold}
        variant = Configured(method.name, "for a test", None, settings=tuple(settings.items()))
        with method.enabled(videos, variant):
            cached, of_variant = run(videos)
        computed.append(of_variant)
        assert torch.equal(cached, full) == (threshold == 0.0)
    assert computed[0] == products
    # Steps 0 and 5 of 6: the first and last are always computed.
    assert computed[1] < 0.5 * products


class OtherTransformer(WanTransformer3DModel):
    """A transformer that SeaCache has not heard of."""


def test_seacache_knows_wan_from_text_alone(
    wan: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    videos = bench_of(wan)
    assert SeaCache().refusal(videos) is None
    wan.pipe.transformer.register_to_config(out_channels=2)
    assert "from text to video alone" in (SeaCache().refusal(videos) or "")
    wan.pipe.transformer.__class__ = OtherTransformer
    assert "knows where the latents are in Wan" in (SeaCache().refusal(videos) or "")


class Unlisted(torch.nn.Module):
    """A block of which diffusers does not know what it returns."""


@pytest.mark.parametrize("method", [FirstBlockCache(), TaylorSeerCache()], ids=lambda m: m.name)
def test_what_diffusers_cannot_leave_out_is_said_before_anything_runs(
    method: Method, wan: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    videos = bench_of(wan)
    wan.pipe.transformer.blocks[0] = Unlisted()
    reason = method.refusal(videos) or ""
    assert "does not know what Unlisted returns" in reason
    del wan.pipe.transformer.blocks
    assert "WanTransformer3DModel has no list of blocks" in (method.refusal(videos) or "")
    wan.pipe.transformer = None
    assert "has no transformer" in (method.refusal(videos) or "")


@pytest.mark.parametrize("method", BLOCK_CACHES, ids=lambda each: each.name)
def test_block_caches_take_a_wan(
    method: Method, wan: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    assert method.refusal(bench_of(wan)) is None


def test_magcache_has_ratios_of_one_transformer(
    wan: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    torch.manual_seed(1)
    wan.pipe.register_modules(transformer_2=WanTransformer3DModel(**WAN_TRANSFORMER).eval())
    wan.pipe.register_to_config(boundary_ratio=0.5)
    assert "two transformers" in (MagCache().refusal(bench_of(wan)) or "")
    assert FirstBlockCache().refusal(bench_of(wan)) is None
