"""Tiny Z-Image pipelines."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ZImagePipeline, ZImageTransformer2DModel

from tiny_pipelines.common import SIZE, TEXT_WIDTH, Case, euler_scheduler, quiet, text_embeddings


def make_z_image() -> Any:
    """A ZImagePipeline of one block; guidance is one doubled batch, the output is negated."""
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=TEXT_WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[64, 16, 16],
    )
    # Created empty, filled from a checkpoint as a rule.
    for name, parameter in transformer.named_parameters():
        if name.endswith("pad_token"):
            torch.nn.init.normal_(parameter)
    pipe = ZImagePipeline(
        scheduler=euler_scheduler(),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer.eval(),
    )
    return quiet(pipe)


def z_image_arguments(batch: int = 1) -> dict[str, Any]:
    """What a ZImagePipeline needs besides steps and noise."""
    return {
        "prompt_embeds": list(text_embeddings(batch, 1, torch.float32)),
        "negative_prompt_embeds": list(text_embeddings(batch, 3, torch.float32)),
        "guidance_scale": 4.0,
        "height": SIZE,
        "width": SIZE,
    }


Z_IMAGE = Case("z-image", make_z_image, z_image_arguments, 1, "all_x_embedder.2-1")
