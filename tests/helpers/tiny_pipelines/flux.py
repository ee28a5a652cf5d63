"""Tiny FLUX pipelines."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    FluxImg2ImgPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)

from tiny_pipelines.common import (
    POOLED_WIDTH,
    SIZE,
    TEXT_WIDTH,
    Case,
    euler_scheduler,
    pooled_embeddings,
    quiet,
    text_embeddings,
)


def make_flux(
    *,
    guidance_embeds: bool = False,
    num_layers: int = 1,
    num_single_layers: int = 1,
    scheduler: Any = None,
    dtype: torch.dtype = torch.float32,
    pipeline: type[DiffusionPipeline] = FluxPipeline,
    vae: AutoencoderKL | None = None,
) -> Any:
    """A FluxPipeline, or another one of its parts, of 2 heads of 8 dimensions."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=num_layers,
        num_single_layers=num_single_layers,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(2, 2, 4),
    )
    if dtype != torch.float32:
        transformer = transformer.to(dtype)
    pipe = pipeline(
        scheduler=scheduler or euler_scheduler(),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer.eval(),
    )
    return quiet(pipe)


def make_vae() -> AutoencoderKL:
    """A VAE of one block per level."""
    torch.manual_seed(1)
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=SIZE,
        shift_factor=0.1,
        scaling_factor=0.5,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return vae.eval()


def make_flux_img2img() -> Any:
    """A FluxImg2ImgPipeline with a one-block VAE."""
    return make_flux(pipeline=FluxImg2ImgPipeline, vae=make_vae())


def flux_arguments(
    batch: int = 1, *, true_cfg: bool = False, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """What a FluxPipeline needs besides steps and noise; with true guidance a second prompt."""
    arguments: dict[str, Any] = {
        "prompt_embeds": text_embeddings(batch, 1, dtype),
        "pooled_prompt_embeds": pooled_embeddings(batch, 2, dtype),
        "height": SIZE,
        "width": SIZE,
    }
    if true_cfg:
        arguments["negative_prompt_embeds"] = text_embeddings(batch, 3, dtype)
        arguments["negative_pooled_prompt_embeds"] = pooled_embeddings(batch, 4, dtype)
        arguments["true_cfg_scale"] = 3.0
    return arguments


def flux_velocity(transformer: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What the transformer gives for latents at a scheduler's timestep, from 0 to 1000."""
    arguments = flux_arguments()
    velocity: torch.Tensor = transformer(
        hidden_states=x,
        timestep=t.expand(1) / 1000,
        pooled_projections=arguments["pooled_prompt_embeds"],
        encoder_hidden_states=arguments["prompt_embeds"],
        txt_ids=torch.zeros(5, 3),
        img_ids=torch.zeros(16, 3),
        return_dict=False,
    )[0]
    return velocity


FLUX = Case("flux", make_flux, flux_arguments, 1, "x_embedder")
FLUX_DISTILLED = Case(
    "flux-distilled", lambda: make_flux(guidance_embeds=True), flux_arguments, 1, "x_embedder"
)
FLUX_GUIDED = Case("flux-guided", make_flux, flux_arguments, 2, "x_embedder", {"true_cfg": True})
