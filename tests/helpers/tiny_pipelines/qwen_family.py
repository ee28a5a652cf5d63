"""Rows of Qwen-Image's, Z-Image's, Lumina's and SD3's families."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage

from tiny_pipelines.building import (
    Row,
    assemble,
    image_vae,
    inpainting_mask,
    model,
    picture,
    pooled,
    prompts,
    text,
)
from tiny_pipelines.common import SIZE, TEXT_WIDTH, euler_scheduler

PIXELS = {"height": SIZE, "width": SIZE}
QWEN = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": TEXT_WIDTH,
    "axes_dims_rope": (4, 6, 6),
}
SD3 = {
    "sample_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": TEXT_WIDTH,
    "caption_projection_dim": 16,
    "pooled_projection_dim": 8,
}


def _qwen_vae() -> AutoencoderKLQwenImage:
    torch.manual_seed(1)
    return AutoencoderKLQwenImage(
        base_dim=6,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()


def make_qwen_kind(pipeline: str, **parts: Any) -> Any:
    """A pipeline of two blocks."""
    return assemble(
        pipeline,
        transformer=model("QwenImageTransformer2DModel", **QWEN),
        scheduler=euler_scheduler(use_dynamic_shifting=True, shift_terminal=0.02),
        vae=_qwen_vae(),
        **parts,
    )


def _qwen_controlled(pipeline: str, *, extra: int = 0) -> Any:
    config = {name: value for name, value in QWEN.items() if name != "out_channels"}
    controlnet = model(
        "QwenImageControlNetModel", out_channels=4, extra_condition_channels=extra, **config
    )
    return make_qwen_kind(pipeline, controlnet=controlnet)


def _qwen_arguments(**others: Any) -> dict[str, Any]:
    return {**PIXELS, **prompts(TEXT_WIDTH, masked="_embeds_mask"), **others}


def _qwen_pictures(**others: Any) -> dict[str, Any]:
    return _qwen_arguments(image=picture(SIZE), **others)


def z_image(pipeline: str, **parts: Any) -> Any:
    """A pipeline of Z-Image."""
    transformer = model(
        "ZImageTransformer2DModel",
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=TEXT_WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[64, 16, 16],
    )
    for name, parameter in transformer.named_parameters():
        if name.endswith("pad_token"):
            torch.nn.init.normal_(parameter)
    return assemble(
        pipeline, transformer=transformer, scheduler=euler_scheduler(), vae=image_vae(), **parts
    )


def _z_image_arguments(**others: Any) -> dict[str, Any]:
    return {
        **PIXELS,
        "prompt_embeds": list(text(TEXT_WIDTH)),
        "negative_prompt_embeds": list(text(TEXT_WIDTH, seed=3)),
        "guidance_scale": 4.0,
        **others,
    }


def _lumina2() -> Any:
    transformer = model(
        "Lumina2Transformer2DModel",
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=16,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        ffn_dim_multiplier=None,
        scaling_factor=1.0,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(64, 16, 16),
        cap_feat_dim=TEXT_WIDTH,
    )
    return assemble(
        "Lumina2Pipeline", transformer=transformer, scheduler=euler_scheduler(), vae=image_vae()
    )


def _lumina() -> Any:
    transformer = model(
        "LuminaNextDiT2DModel",
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=2,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        ffn_dim_multiplier=None,
        learn_sigma=True,
        qk_norm=True,
        cross_attention_dim=TEXT_WIDTH,
        scaling_factor=1.0,
    )
    return assemble(
        "LuminaPipeline", transformer=transformer, scheduler=euler_scheduler(), vae=image_vae()
    )


def _sd3(pipeline: str, *, channels: int = 4, **parts: Any) -> Any:
    config = {**SD3, "in_channels": channels, "out_channels": channels}
    return assemble(
        pipeline,
        transformer=model("SD3Transformer2DModel", **config),
        scheduler=euler_scheduler(),
        vae=image_vae(channels=channels),
        **parts,
    )


def _sd3_controlled(pipeline: str, *, extra: int = 0) -> Any:
    controlnet = model("SD3ControlNetModel", extra_conditioning_channels=extra, **SD3)
    return _sd3(pipeline, controlnet=controlnet)


def _sd3_arguments(**others: Any) -> dict[str, Any]:
    return {
        **PIXELS,
        **prompts(TEXT_WIDTH),
        "pooled_prompt_embeds": pooled(8),
        "negative_pooled_prompt_embeds": pooled(8, seed=4),
        **others,
    }


PAG = {"pag_applied_layers": ["blocks.1"]}
"""The layers whose attention is perturbed."""

ROWS = (
    Row(
        "QwenImagePipeline",
        lambda: make_qwen_kind("QwenImagePipeline"),
        _qwen_arguments,
        quick=True,
    ),
    Row(
        "QwenImageImg2ImgPipeline",
        lambda: make_qwen_kind("QwenImageImg2ImgPipeline"),
        lambda: _qwen_pictures(strength=1.0),
    ),
    Row(
        "QwenImageInpaintPipeline",
        lambda: make_qwen_kind("QwenImageInpaintPipeline"),
        lambda: _qwen_pictures(mask_image=inpainting_mask(SIZE), strength=1.0),
    ),
    Row(
        "QwenImageControlNetPipeline",
        lambda: _qwen_controlled("QwenImageControlNetPipeline"),
        lambda: _qwen_arguments(control_image=picture(SIZE)),
    ),
    Row(
        "QwenImageControlNetInpaintPipeline",
        lambda: _qwen_controlled("QwenImageControlNetInpaintPipeline", extra=4),
        lambda: _qwen_arguments(
            control_image=picture(SIZE), control_mask=inpainting_mask(SIZE), guidance_scale=None
        ),
    ),
    Row("ZImagePipeline", lambda: z_image("ZImagePipeline"), _z_image_arguments, quick=True),
    Row(
        "ZImageImg2ImgPipeline",
        lambda: z_image("ZImageImg2ImgPipeline"),
        lambda: _z_image_arguments(image=picture(SIZE), strength=1.0),
    ),
    Row(
        "ZImageInpaintPipeline",
        lambda: z_image("ZImageInpaintPipeline"),
        lambda: _z_image_arguments(
            image=picture(SIZE), mask_image=inpainting_mask(SIZE), strength=1.0
        ),
    ),
    Row(
        "Lumina2Pipeline",
        _lumina2,
        lambda: {**PIXELS, **prompts(TEXT_WIDTH, masked="_attention_mask")},
        quick=True,
    ),
    Row(
        "LuminaPipeline",
        _lumina,
        lambda: {**PIXELS, **prompts(TEXT_WIDTH, masked="_attention_mask")},
    ),
    Row(
        "StableDiffusion3Pipeline",
        lambda: _sd3("StableDiffusion3Pipeline"),
        _sd3_arguments,
        quick=True,
    ),
    Row(
        "StableDiffusion3Img2ImgPipeline",
        lambda: _sd3("StableDiffusion3Img2ImgPipeline"),
        lambda: _sd3_arguments(image=picture(SIZE), strength=1.0),
    ),
    Row(
        "StableDiffusion3InpaintPipeline",
        lambda: _sd3("StableDiffusion3InpaintPipeline", channels=16),
        lambda: _sd3_arguments(image=picture(SIZE), mask_image=inpainting_mask(SIZE), strength=1.0),
    ),
    Row(
        "StableDiffusion3ControlNetPipeline",
        lambda: _sd3_controlled("StableDiffusion3ControlNetPipeline"),
        lambda: _sd3_arguments(control_image=picture(SIZE)),
    ),
    Row(
        "StableDiffusion3ControlNetInpaintingPipeline",
        lambda: _sd3_controlled("StableDiffusion3ControlNetInpaintingPipeline", extra=1),
        lambda: _sd3_arguments(control_image=picture(SIZE), control_mask=inpainting_mask(SIZE)),
    ),
    Row(
        "StableDiffusion3PAGPipeline",
        lambda: _sd3("StableDiffusion3PAGPipeline", **PAG),
        _sd3_arguments,
    ),
    Row(
        "StableDiffusion3PAGImg2ImgPipeline",
        lambda: _sd3("StableDiffusion3PAGImg2ImgPipeline", **PAG),
        lambda: _sd3_arguments(image=picture(SIZE), strength=1.0),
    ),
)
