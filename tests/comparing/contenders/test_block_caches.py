"""Caches of cache-dit and diffusers that leave blocks out: what they promise, and what is left."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cache_dit
import pytest
import torch
from contender_runs import latents, run

from otcache_plugin.comparing.contenders.dbcache import DBCache, StepsMask
from otcache_plugin.comparing.contenders.diffusers_caches import (
    FirstBlockCache,
    TaylorSeerCache,
)
from otcache_plugin.comparing.contenders.magcache import MagCache
from otcache_plugin.comparing.contenders.tuning import Configured
from otcache_plugin.comparing.counting import counting_calls, flop_counter
from otcache_plugin.comparing.methods import Bench, Method, Variant
from otcache_plugin.comparing.work import counted_work
from otcache_plugin.models.setups import ModelSetup

DBCACHE = DBCache("dbcache", "DBCache", (None,))
DBCACHE_TAYLORSEER = DBCache("dbcache-taylorseer", "DBCache, TaylorSeer", (1, 2))
MASK = StepsMask("steps-mask", "steps mask", None)

SETTINGS: dict[Any, dict[str, Any]] = {
    DBCACHE: {"order": None, "warm_up": 1, "in_a_row": -1, "apart": True, "threshold": 4.0},
    DBCACHE_TAYLORSEER: {"order": 1, "warm_up": 1, "in_a_row": -1, "apart": True, "threshold": 4.0},
    FirstBlockCache(): {"threshold": 4.0},
    TaylorSeerCache(): {"lite": True, "first": 3, "interval": 3, "order": 1},
    MagCache(): {"in_a_row": 3, "retention": 0.2, "threshold": 4.0},
}
"""With which methods leave out as much as they can."""

EMPTIED = {"_diffusers_hook", "_cache_config"}
"""What diffusers empties rather than removes."""


SETTINGS_OF = {method.name: settings for method, settings in SETTINGS.items()}


def variant_of(method: Method, settings: dict[str, Any]) -> Variant:
    return Configured(method.name, "for a test", None, settings=tuple(settings.items()))


@pytest.mark.parametrize("method", SETTINGS, ids=lambda method: method.name)
def test_a_cache_leaves_out_and_then_leaves_nothing_behind(method: Method, bench: Bench) -> None:
    assert method.refusal(bench) is None
    variant = variant_of(method, SETTINGS[method])
    full, products = run(bench)
    transformer = bench.pipe.transformer
    before = set(vars(transformer)) - EMPTIED
    parts = [name for name, _ in transformer.named_modules()]
    with method.enabled(bench, variant):
        cached, computed = run(bench)
    assert computed < 0.8 * products
    assert not torch.equal(cached, full)
    with pytest.raises(RuntimeError, match="stop"), method.enabled(bench, variant):
        raise RuntimeError("stop")
    assert torch.equal(latents(bench), full)
    assert set(vars(transformer)) - EMPTIED == before
    assert [name for name, _ in transformer.named_modules()] == parts


@pytest.mark.parametrize("method", [DBCACHE, DBCACHE_TAYLORSEER, FirstBlockCache(), MagCache()])
def test_a_threshold_of_nothing_is_the_full_run(method: Method, bench: Bench) -> None:
    with method.enabled(bench, variant_of(method, {**SETTINGS_OF[method.name], "threshold": 0.0})):
        cached = run(bench)
    full = run(bench)
    assert torch.equal(cached[0], full[0])
    assert cached[1] == full[1]


@pytest.mark.parametrize("method", [DBCACHE, FirstBlockCache()], ids=lambda method: method.name)
def test_a_larger_threshold_computes_less_and_ends_further_away(
    method: Method, bench: Bench
) -> None:
    full = latents(bench)
    products, errors = [], []
    for threshold in (0.3, 0.8, 4.0):
        settings = {**SETTINGS_OF[method.name], "threshold": threshold}
        with method.enabled(bench, variant_of(method, settings)):
            cached, computed = run(bench)
        products.append(computed)
        errors.append(float((cached - full).square().mean()))
    assert products == sorted(products, reverse=True)
    assert errors == sorted(errors)
    assert products[0] > products[-1]


class PlainRule:
    """First Block Cache by its description: one loop, one memory for each of guidance's calls.

    The other blocks' change of both streams is added again while the first block's residual of the
    picture's tokens differs from the last computed one by no more than a share of it.
    """

    def __init__(self, transformer: Any, threshold: float, patch: pytest.MonkeyPatch) -> None:
        self.memories: list[dict[str, Any]] = [{}, {}]
        self.calls = 0
        self.computed: tuple[list[int], list[int]] = ([], [])
        first, *others = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        forward = first.forward

        def head(**given: Any) -> Any:
            own = self.memories[self.calls % 2]
            text, picture = forward(**given)
            residual = picture - given["hidden_states"]
            own["at"] = text, picture
            if "residual" in own:
                change = (residual - own["residual"]).abs().mean() / own["residual"].abs().mean()
                own["skips"] = float(change) <= threshold
            if not own.get("skips"):
                own["residual"] = residual
                self.computed[self.calls % 2].append(self.calls // 2)
            return text, picture

        patch.setattr(first, "forward", head)
        for block in others:
            patch.setattr(block, "forward", self._other(block.forward, block is others[-1]))

    def _other(self, forward: Any, is_last: bool) -> Any:
        def other(**given: Any) -> Any:
            own = self.memories[self.calls % 2]
            skips, (text, picture) = own.get("skips"), own["at"]
            out = (given["encoder_hidden_states"], given["hidden_states"])
            if not skips:
                out = forward(**given)
            if is_last:
                self.calls += 1
                if skips:
                    return own["change"][0] + text, own["change"][1] + picture
                own["change"] = out[0] - text, out[1] - picture
            return out

        return other


@pytest.mark.parametrize("threshold", [0.2, 0.6])
def test_both_first_block_caches_do_what_their_rule_says(
    threshold: float, embedded: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    bench = bench_of(embedded, steps=16)
    with pytest.MonkeyPatch.context() as patch:
        plain = PlainRule(bench.pipe.transformer, threshold, patch)
        by_hand = latents(bench)
    first_block_cache, dbcache = FirstBlockCache(), SETTINGS_OF["dbcache"]
    with first_block_cache.enabled(bench, variant_of(first_block_cache, {"threshold": threshold})):
        assert torch.equal(latents(bench), by_hand)
    with DBCACHE.enabled(bench, variant_of(DBCACHE, {**dbcache, "threshold": threshold})):
        # It adds the same residuals, in another order.
        torch.testing.assert_close(latents(bench), by_hand, rtol=1e-4, atol=1e-4)
        (stats, *_) = cache_dit.summary(bench.pipe, logging=False)
    of_calls = (stats.cached_steps, stats.cfg_cached_steps)
    assert of_calls == tuple(sorted({*range(16)} - {*steps}) for steps in plain.computed)
    assert plain.computed[0] != plain.computed[1]


def test_guidances_calls_decide_alike_where_they_are_told_to(
    embedded: ModelSetup, bench_of: Callable[..., Bench]
) -> None:
    bench = bench_of(embedded, steps=16)
    settings = {**SETTINGS_OF["dbcache"], "threshold": 0.2, "apart": False}
    with DBCACHE.enabled(bench, variant_of(DBCACHE, settings)):
        latents(bench)
        (stats, *_) = cache_dit.summary(bench.pipe, logging=False)
    assert stats.cached_steps == stats.cfg_cached_steps
    assert 0 < len(stats.cached_steps) < 15


def test_taylorseer_of_every_step_is_the_full_run(bench: Bench) -> None:
    method = TaylorSeerCache()
    every = {"lite": True, "first": 3, "interval": 1, "order": 1}
    with method.enabled(bench, variant_of(method, every)):
        assert torch.equal(latents(bench), full := latents(bench))
    assert torch.equal(full, latents(bench))


def test_dbcache_computes_the_first_of_six_blocks_on_the_steps_that_its_summary_lists(
    bench: Bench,
) -> None:
    transformer = bench.pipe.transformer
    _, *others = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    with counted_work(SimpleNamespace(transformer=torch.nn.ModuleList(others))) as of_others:
        _, full = run(bench)
    with DBCACHE.enabled(bench, variant_of(DBCACHE, SETTINGS_OF["dbcache"])):
        _, computed = run(bench)
        (stats, *_) = cache_dit.summary(bench.pipe, logging=False)
    assert stats.cached_steps == stats.cfg_cached_steps == [1, 2, 3, 4, 5]
    assert computed == full - 5 / 6 * of_others.products


def test_flops_see_what_is_left_out(embedded: ModelSetup, bench_of: Callable[..., Bench]) -> None:
    bench = bench_of(embedded, steps=4)

    def flops() -> int:
        with flop_counter() as counter:
            latents(bench)
        return sum(counter.get_flop_counts()["FluxTransformer2DModel"].values())

    full, products = flops(), run(bench)[1]
    method = TaylorSeerCache()
    settings = {"lite": True, "first": 3, "interval": 10, "order": 1}
    with method.enabled(bench, variant_of(method, settings)):
        cached, computed = flops(), run(bench)[1]
    # Steps 0, 1 and 2 of 4; of the last there are the embeddings and the last norm.
    assert 3 / 4 < cached / full < 3.1 / 4
    # All attention is in the blocks, and none of it in linear layers.
    assert cached / full == pytest.approx(computed / products, rel=0.002)


@pytest.mark.parametrize("method", SETTINGS, ids=lambda method: method.name)
def test_calls_and_blocks_are_counted_whatever_the_cache_is(method: Method, bench: Bench) -> None:
    variant = variant_of(method, SETTINGS[method])
    with method.enabled(bench, variant):
        pass  # what it has to find out first runs now
    with counting_calls(bench.pipe) as counts, method.enabled(bench, variant):
        latents(bench)
    assert counts.transformer == 2 * 6
    # Of 6 blocks all on the first step, and none or the first on those that are cached.
    assert 2 * 6 <= counts.blocks < 2 * 6 * 6
    with counting_calls(bench.pipe) as counts:
        latents(bench)
    assert (counts.transformer, counts.blocks) == (2 * 6, 2 * 6 * 6)


def test_the_masks_are_cache_dits(bench_of: Callable[..., Bench], embedded: ModelSetup) -> None:
    bench = bench_of(embedded, steps=28)
    variants = MASK.variants(bench)
    # Counted by hand in cache-dit's comments on its masks of 28 steps.
    assert [(each.setting, each.budget) for each in variants] == [
        ("slow", 18),
        ("medium", 15),
        ("fast", 11),
        ("ultra", 8),
    ]
    with MASK.enabled(bench, variants[-1]):
        latents(bench)
        (stats, *_) = cache_dit.summary(bench.pipe, logging=False)
    assert len(stats.cached_steps) == len(stats.cfg_cached_steps) == 28 - 8
