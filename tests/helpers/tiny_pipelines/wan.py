"""Tiny Wan pipelines."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanPipeline, WanTransformer3DModel

from tiny_pipelines.common import SIZE, TEXT_WIDTH, Case, euler_scheduler, quiet, text_embeddings

WAN_TRANSFORMER: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": TEXT_WIDTH,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}
"""Configuration of a transformer of the Wan architecture, or of one made like it."""


def make_wan(*, scheduler: Any = None) -> Any:
    """A Wan 2.2 pipeline of two one-block transformers, the second one below noise level 0.9."""
    torch.manual_seed(0)
    transformers = [
        WanTransformer3DModel(**{**WAN_TRANSFORMER, "num_layers": 1}).eval() for _ in range(2)
    ]
    pipe = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        scheduler=scheduler or euler_scheduler(),
        transformer=transformers[0],
        transformer_2=transformers[1],
        boundary_ratio=0.9,
    )
    return quiet(pipe)


def make_single_wan(*, scheduler: Any = None) -> Any:
    """A Wan 2.1 pipeline: one transformer, of two blocks."""
    torch.manual_seed(0)
    pipe = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        scheduler=scheduler or euler_scheduler(),
        transformer=WanTransformer3DModel(**WAN_TRANSFORMER).eval(),
    )
    return quiet(pipe)


def wan_arguments(batch: int = 1) -> dict[str, Any]:
    """What a WanPipeline needs besides steps and noise: five frames."""
    return {
        "prompt_embeds": text_embeddings(batch, 1, torch.float32),
        "negative_prompt_embeds": text_embeddings(batch, 3, torch.float32),
        "guidance_scale": 4.0,
        "height": SIZE,
        "width": SIZE,
        "num_frames": 5,
    }


WAN = Case("wan-2.2", make_wan, wan_arguments, 2, "patch_embedding")
