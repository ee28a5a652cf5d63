"""Rows of other image models: CogView, GLM, AuraFlow, PixArt, HunyuanDiT, DiT, Sana."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    SCMScheduler,
)

from tiny_pipelines.building import (
    Row,
    assemble,
    image_vae,
    mask,
    model,
    picture,
    prompts,
    text,
)
from tiny_pipelines.common import SIZE, TEXT_WIDTH, euler_scheduler

PIXELS = {"height": SIZE, "width": SIZE}
MASKED = "_attention_mask"
SANA = {
    "patch_size": 1,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 4,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 4,
    "cross_attention_dim": 8,
    "caption_channels": TEXT_WIDTH,
    "sample_size": 8,
}


def _cogview3() -> Any:
    transformer = model(
        "CogView3PlusTransformer2DModel",
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        text_embed_dim=TEXT_WIDTH,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=8,
        sample_size=8,
    )
    return assemble(
        "CogView3PlusPipeline", transformer=transformer, scheduler=CogVideoXDDIMScheduler()
    )


def _cogview4(pipeline: str, *, in_channels: int = 4) -> Any:
    transformer = model(
        "CogView4Transformer2DModel",
        patch_size=2,
        in_channels=in_channels,
        out_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=4,
        text_embed_dim=TEXT_WIDTH,
        time_embed_dim=8,
        condition_dim=4,
    )
    scheduler = euler_scheduler(
        shift=1.0,
        base_shift=0.25,
        max_shift=0.75,
        base_image_seq_len=256,
        use_dynamic_shifting=True,
        time_shift_type="linear",
    )
    return assemble(pipeline, transformer=transformer, scheduler=scheduler, vae=image_vae())


def _glm() -> Any:
    transformer = model(
        "GlmImageTransformer2DModel",
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=TEXT_WIDTH,
        time_embed_dim=16,
        condition_dim=8,
        prior_vq_quantizer_codebook_size=128,
    )
    return assemble(
        "GlmImagePipeline", transformer=transformer, scheduler=euler_scheduler(), vae=image_vae()
    )


def _glm_arguments() -> dict[str, Any]:
    tokens = torch.arange(16).reshape(1, 16)
    return {**PIXELS, **prompts(TEXT_WIDTH), "prior_token_ids": tokens}


def _aura_flow() -> Any:
    transformer = model(
        "AuraFlowTransformer2DModel",
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=TEXT_WIDTH,
        pos_embed_max_size=64,
    )
    return assemble(
        "AuraFlowPipeline", transformer=transformer, scheduler=euler_scheduler(), vae=image_vae()
    )


def _pixart(pipeline: str) -> Any:
    transformer = model(
        "PixArtTransformer2DModel",
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=TEXT_WIDTH,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    return assemble(pipeline, transformer=transformer, scheduler=DPMSolverMultistepScheduler())


def _unbinned(**others: Any) -> dict[str, Any]:
    return {
        **PIXELS,
        **prompts(TEXT_WIDTH, masked=MASKED),
        "negative_prompt": None,
        "use_resolution_binning": False,
        **others,
    }


def _hunyuan_dit(pipeline: str) -> Any:
    transformer = model(
        "HunyuanDiT2DModel",
        sample_size=8,
        num_layers=4,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        cross_attention_dim=TEXT_WIDTH,
        cross_attention_dim_t5=TEXT_WIDTH,
        pooled_projection_dim=16,
        hidden_size=16,
        text_len=5,
        text_len_t5=5,
        activation_fn="gelu-approximate",
    )
    return assemble(
        pipeline,
        transformer=transformer,
        scheduler=DDPMScheduler(),
        vae=image_vae(),
        requires_safety_checker=False,
    )


def _hunyuan_dit_arguments() -> dict[str, Any]:
    second = {
        "prompt_embeds_2": text(TEXT_WIDTH, seed=8),
        "negative_prompt_embeds_2": text(TEXT_WIDTH, seed=9),
        "prompt_attention_mask_2": mask(),
        "negative_prompt_attention_mask_2": mask(),
    }
    given = {name: value for name, value in _unbinned().items() if name != "negative_prompt"}
    return {**given, **second}


def _dit() -> Any:
    transformer = model(
        "DiTTransformer2DModel",
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    return assemble(
        "DiTPipeline", transformer=transformer, scheduler=DDIMScheduler(), vae=image_vae()
    )


def _sana(pipeline: str, scheduler: Any, **config: Any) -> Any:
    transformer = model("SanaTransformer2DModel", **SANA, **config)
    return assemble(pipeline, transformer=transformer, scheduler=scheduler)


def _sana_controlled() -> Any:
    return assemble(
        "SanaControlNetPipeline",
        transformer=model("SanaTransformer2DModel", **SANA),
        controlnet=model("SanaControlNetModel", **{**SANA, "num_layers": 1}),
        scheduler=euler_scheduler(),
        vae=_dc_vae(),
    )


def _dc_vae() -> Any:
    return model(
        "AutoencoderDC",
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        upsample_block_type="interpolate",
        downsample_block_type="stride_conv",
    )


def _sprint_arguments() -> dict[str, Any]:
    given = prompts(TEXT_WIDTH, masked=MASKED, guided=False)
    return {**PIXELS, **given, "use_resolution_binning": False, "intermediate_timesteps": None}


ROWS = (
    Row("CogView3PlusPipeline", _cogview3, lambda: {**PIXELS, **prompts(TEXT_WIDTH)}),
    Row(
        "CogView4Pipeline",
        lambda: _cogview4("CogView4Pipeline"),
        lambda: {**PIXELS, **prompts(TEXT_WIDTH)},
    ),
    Row(
        "CogView4ControlPipeline",
        lambda: _cogview4("CogView4ControlPipeline", in_channels=8),
        lambda: {**PIXELS, **prompts(TEXT_WIDTH), "control_image": picture(SIZE)},
    ),
    Row("GlmImagePipeline", _glm, _glm_arguments),
    Row(
        "AuraFlowPipeline",
        _aura_flow,
        lambda: {**PIXELS, **prompts(TEXT_WIDTH, masked=MASKED)},
    ),
    Row("PixArtAlphaPipeline", lambda: _pixart("PixArtAlphaPipeline"), _unbinned),
    Row("PixArtSigmaPipeline", lambda: _pixart("PixArtSigmaPipeline"), _unbinned),
    Row("HunyuanDiTPipeline", lambda: _hunyuan_dit("HunyuanDiTPipeline"), _hunyuan_dit_arguments),
    Row(
        "HunyuanDiTPAGPipeline",
        lambda: _hunyuan_dit("HunyuanDiTPAGPipeline"),
        _hunyuan_dit_arguments,
    ),
    Row("DiTPipeline", _dit, lambda: {"class_labels": [1], "output_type": "np"}),
    Row(
        "SanaPipeline",
        lambda: _sana("SanaPipeline", euler_scheduler()),
        lambda: _unbinned(),
    ),
    Row(
        "SanaPAGPipeline",
        lambda: _sana("SanaPAGPipeline", euler_scheduler()),
        lambda: _unbinned(),
    ),
    Row("SanaControlNetPipeline", _sana_controlled, lambda: _unbinned(control_image=picture(SIZE))),
    Row(
        "SanaSprintPipeline",
        lambda: _sana(
            "SanaSprintPipeline",
            SCMScheduler(),
            qk_norm="rms_norm_across_heads",
            guidance_embeds=True,
        ),
        _sprint_arguments,
    ),
)
