"""Pipelines that don't tell the scheduler: of skipped timesteps, of steps taken twice."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    CosmosTextToWorldPipeline,
    CosmosTransformer3DModel,
    EDMEulerScheduler,
    WanTransformer3DModel,
    WanVideoToVideoPipeline,
)
from tiny_pipelines import SIZE, TEXT_WIDTH, Case, euler_scheduler, quiet, wan_arguments
from tiny_pipelines.wan import WAN_TRANSFORMER


def make_wan_video_to_video(scheduler: Any = None) -> Any:
    """A pipeline that never sets the scheduler's begin index, whatever the strength."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(**WAN_TRANSFORMER)
    pipe = WanVideoToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        transformer=transformer.eval(),
        vae=None,
        scheduler=scheduler or euler_scheduler(),
    )
    return quiet(pipe)


def wan_video_to_video_arguments(batch: int = 1) -> dict[str, Any]:
    """Latents in the place of a video, and three quarters of the steps."""
    arguments = wan_arguments(batch)
    del arguments["num_frames"]
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(batch, 4, 2, SIZE // 8, SIZE // 8, generator=generator)
    return {**arguments, "latents": latents, "strength": 0.75}


WAN_VIDEO_TO_VIDEO = Case(
    "wan-video-to-video",
    make_wan_video_to_video,
    wan_video_to_video_arguments,
    2,
    "condition_embedder",
)


class NoChecker:
    """Finds nothing wrong with anything."""

    def to(self, device: Any) -> None:
        """Be anywhere."""

    def check_text_safety(self, prompt: str) -> bool:
        """Find nothing wrong."""
        return True


def make_cosmos() -> Any:
    """A Cosmos 1 pipeline, which takes every step twice."""
    torch.manual_seed(0)
    transformer = CosmosTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=TEXT_WIDTH,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        patch_size=(1, 2, 2),
        rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=True,
        extra_pos_embed_type="learnable",
    )
    scheduler = EDMEulerScheduler(
        sigma_min=0.002,
        sigma_max=80,
        sigma_data=0.5,
        sigma_schedule="karras",
        final_sigmas_type="sigma_min",
        prediction_type="epsilon",
    )
    pipe = CosmosTextToWorldPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer.eval(),
        vae=None,
        scheduler=scheduler,
        safety_checker=NoChecker(),
    )
    return quiet(pipe)


def cosmos_arguments(batch: int = 1) -> dict[str, Any]:
    """What the pipeline needs besides steps and noise."""
    arguments = wan_arguments(batch)
    return {**arguments, "guidance_scale": 4.0}


COSMOS = Case("cosmos-1", make_cosmos, cosmos_arguments, 2, "patch_embed")
