"""Tiny Qwen-Image pipelines."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import QwenImagePipeline, QwenImageTransformer2DModel

from tiny_pipelines.common import (
    SIZE,
    TEXT_TOKENS,
    TEXT_WIDTH,
    Case,
    euler_scheduler,
    quiet,
    text_embeddings,
)


def make_qwen() -> Any:
    """A QwenImagePipeline of one block; guidance is two calls and a renormalisation."""
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    pipe = QwenImagePipeline(
        scheduler=euler_scheduler(use_dynamic_shifting=True, shift_terminal=0.02),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer.eval(),
    )
    return quiet(pipe)


def qwen_arguments(batch: int = 1, *, true_cfg: bool = True) -> dict[str, Any]:
    """What a QwenImagePipeline needs besides steps and noise."""
    mask = torch.ones(batch, TEXT_TOKENS, dtype=torch.long)
    arguments: dict[str, Any] = {
        "prompt_embeds": text_embeddings(batch, 1, torch.float32),
        "prompt_embeds_mask": mask,
        "height": SIZE,
        "width": SIZE,
    }
    if true_cfg:
        arguments["negative_prompt_embeds"] = text_embeddings(batch, 3, torch.float32)
        arguments["negative_prompt_embeds_mask"] = mask
        arguments["true_cfg_scale"] = 4.0
    return arguments


QWEN = Case("qwen-image", make_qwen, qwen_arguments, 2, "img_in")
