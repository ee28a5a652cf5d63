"""A tiny VisualCloze pipeline: it is made of two pipelines, and runs one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import FluxTransformer2DModel, VisualClozePipeline
from PIL import Image

from tiny_pipelines.common import (
    POOLED_WIDTH,
    SIZE,
    TEXT_TOKENS,
    TEXT_WIDTH,
    Case,
    euler_scheduler,
    pooled_embeddings,
    quiet,
    text_embeddings,
)
from tiny_pipelines.flux import make_vae


def _embed(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
    """Stand in for the inner pipelines' text encoders."""
    return text_embeddings(1, 1), pooled_embeddings(1, 2), torch.zeros(TEXT_TOKENS, 3)


def make_visual_cloze() -> Any:
    """A VisualClozePipeline of four blocks, for pictures of 64 pixels."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        # Noisy latents, those of the pictures that are given, and 8 x 8 pixels of mask for each.
        in_channels=2 * 16 + 4 * 64,
        out_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(2, 2, 4),
    )
    pipe = VisualClozePipeline(
        scheduler=euler_scheduler(),
        vae=make_vae(),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer.eval(),
        resolution=SIZE,
    )
    for inner in (pipe.generation_pipe, pipe.upsampling_pipe):
        inner.encode_prompt = _embed
        quiet(inner)
    return quiet(pipe)


def _drawn(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def visual_cloze_arguments(batch: int = 1) -> dict[str, Any]:
    """What a VisualClozePipeline needs besides steps and noise: an example, and a query."""
    assert batch == 1
    return {
        "task_prompt": "a task",
        "content_prompt": "a prompt",
        "image": [[_drawn(1), _drawn(2)], [_drawn(3), None]],
        "upsampling_height": SIZE,
        "upsampling_width": SIZE,
        "upsampling_strength": 0.5,
    }


VISUAL_CLOZE = Case("visual-cloze", make_visual_cloze, visual_cloze_arguments, 1, "x_embedder")
