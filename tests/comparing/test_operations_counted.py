"""Calls and operations that can be counted by hand."""

from __future__ import annotations

import torch
from diffusers import FirstBlockCacheConfig, apply_first_block_cache
from tiny_pipelines.flux import FLUX, make_flux

from otcache_plugin.comparing.counting import counting_calls, flop_counter


def test_attention_on_the_cpu_counts() -> None:
    query, key = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 11, 7)
    with flop_counter() as counter:
        torch.nn.functional.scaled_dot_product_attention(query, key, key)
    # Scores and their weighted mean: a multiplication and an addition each.
    assert counter.get_total_flops() == 2 * (2 * 2 * 3 * 5 * 11 * 7)


def test_blocks_that_a_cache_leaves_out_do_not_count() -> None:
    pipe = make_flux(num_layers=2, num_single_layers=3)
    with counting_calls(pipe) as counts:
        apply_first_block_cache(pipe.transformer, FirstBlockCacheConfig(threshold=1e9))
        try:
            FLUX.run(pipe, num_inference_steps=4)
        finally:
            pipe.transformer.disable_cache()
    assert counts.transformer == 4
    # All five of the first step, then the one that decides.
    assert counts.blocks == 5 + 3
    with counting_calls(pipe) as counts:
        FLUX.run(pipe, num_inference_steps=4)
    assert (counts.transformer, counts.blocks) == (4, 20)
