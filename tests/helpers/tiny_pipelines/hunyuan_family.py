"""Rows of HunyuanVideo's, HunyuanImage's, Kandinsky 5's and MotifVideo's families."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ClassifierFreeGuidance

from tiny_pipelines.building import (
    Row,
    answering,
    assemble,
    hunyuan_vae,
    image_vae,
    mask,
    model,
    picture,
    pil_picture,
    pooled,
    prompts,
    text,
    wan_vae,
)
from tiny_pipelines.common import TEXT_WIDTH, euler_scheduler

SIDE = 32
PIXELS = {"height": SIDE, "width": SIDE}
VIDEO = {**PIXELS, "num_frames": 5}
HUNYUAN = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 10,
    "num_layers": 2,
    "num_single_layers": 2,
    "num_refiner_layers": 1,
    "patch_size": 1,
    "patch_size_t": 1,
    "guidance_embeds": True,
    "text_embed_dim": TEXT_WIDTH,
    "pooled_projection_dim": 8,
    "rope_axes_dim": (2, 4, 4),
}
KANDINSKY = {
    "in_visual_dim": 4,
    "out_visual_dim": 4,
    "in_text_dim": TEXT_WIDTH,
    "in_text_dim2": 8,
    "time_dim": 16,
    "patch_size": (1, 2, 2),
    "model_dim": 16,
    "ff_dim": 32,
    "num_text_blocks": 1,
    "num_visual_blocks": 2,
    "axes_dims": (1, 1, 2),
    "attention_type": "regular",
}
GUIDED = {"guidance_scale": 4.0}


def _hunyuan(pipeline: str, **config: Any) -> Any:
    transformer = model("HunyuanVideoTransformer3DModel", **{**HUNYUAN, **config})
    return assemble(
        pipeline, transformer=transformer, scheduler=euler_scheduler(), vae=hunyuan_vae()
    )


def _framepack() -> Any:
    transformer = model(
        "HunyuanVideoFramepackTransformer3DModel",
        **{**HUNYUAN, "patch_size": 2},
        image_condition_type=None,
        has_image_proj=True,
        image_proj_dim=16,
        has_clean_x_embedder=True,
    )
    pipe = assemble(
        "HunyuanVideoFramepackPipeline",
        transformer=transformer,
        scheduler=euler_scheduler(),
        vae=hunyuan_vae(),
    )
    return answering(pipe, "encode_image", text(16, tokens=4, seed=7))


def _hunyuan_arguments(**others: Any) -> dict[str, Any]:
    return {
        **VIDEO,
        "prompt_embeds": text(TEXT_WIDTH),
        "pooled_prompt_embeds": pooled(8),
        "prompt_attention_mask": mask(),
        **others,
    }


def _guided_hunyuan_arguments(**others: Any) -> dict[str, Any]:
    return _hunyuan_arguments(
        negative_prompt_embeds=text(TEXT_WIDTH, seed=3),
        negative_pooled_prompt_embeds=pooled(8, seed=4),
        negative_prompt_attention_mask=mask(),
        true_cfg_scale=3.0,
        **others,
    )


def _hunyuan_15(pipeline: str = "HunyuanVideo15Pipeline", *, task: str = "t2v") -> Any:
    transformer = model(
        "HunyuanVideo15Transformer3DModel",
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        patch_size=1,
        patch_size_t=1,
        text_embed_dim=TEXT_WIDTH,
        text_embed_2_dim=8,
        image_embed_dim=12,
        rope_axes_dim=(2, 2, 4),
        target_size=16,
        task_type=task,
    )
    torch.manual_seed(1)
    vae = model(
        "AutoencoderKLHunyuanVideo15",
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    return assemble(
        pipeline,
        transformer=transformer,
        scheduler=euler_scheduler(),
        vae=vae,
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )


def _hunyuan_15_from_picture() -> Any:
    pipe = _hunyuan_15("HunyuanVideo15ImageToVideoPipeline", task="i2v")
    return answering(pipe, "encode_image", text(12, tokens=4, seed=7))


def _two_prompts() -> dict[str, Any]:
    given = prompts(TEXT_WIDTH, masked="_embeds_mask")
    second = {
        "prompt_embeds_2": text(8, seed=8),
        "negative_prompt_embeds_2": text(8, seed=9),
        "prompt_embeds_mask_2": mask(),
        "negative_prompt_embeds_mask_2": mask(),
    }
    return {**given, **second}


def _hunyuan_image() -> Any:
    transformer = model(
        "HunyuanImageTransformer2DModel",
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        patch_size=(1, 1),
        guidance_embeds=False,
        text_embed_dim=TEXT_WIDTH,
        text_embed_2_dim=8,
        rope_axes_dim=(4, 4),
    )
    return assemble(
        "HunyuanImagePipeline",
        transformer=transformer,
        scheduler=euler_scheduler(),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )


def _hunyuan_image_refiner() -> Any:
    transformer = model(
        "HunyuanImageTransformer2DModel",
        in_channels=8,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        patch_size=(1, 1, 1),
        guidance_embeds=True,
        text_embed_dim=TEXT_WIDTH,
        rope_axes_dim=(2, 2, 4),
    )
    vae = model(
        "AutoencoderKLHunyuanImageRefiner",
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        spatial_compression_ratio=2,
        temporal_compression_ratio=1,
    )
    return assemble(
        "HunyuanImageRefinerPipeline",
        transformer=transformer,
        scheduler=euler_scheduler(),
        vae=vae,
    )


def kandinsky(pipeline: str, *, vae: Any, **config: Any) -> Any:
    """A pipeline of Kandinsky 5, for pictures of one size."""
    transformer = model("Kandinsky5Transformer3DModel", **{**KANDINSKY, **config})
    pipe = assemble(pipeline, transformer=transformer, scheduler=euler_scheduler(), vae=vae)
    pipe.resolutions = [(SIDE, SIDE)]
    return pipe


def kandinsky_arguments(**others: Any) -> dict[str, Any]:
    """What Kandinsky 5 needs besides steps and noise."""
    ends = torch.tensor([0, 5], dtype=torch.int32)
    return {
        **PIXELS,
        **GUIDED,
        "prompt_embeds_qwen": text(TEXT_WIDTH),
        "prompt_embeds_clip": pooled(8),
        "prompt_cu_seqlens": ends,
        "negative_prompt_embeds_qwen": text(TEXT_WIDTH, seed=3),
        "negative_prompt_embeds_clip": pooled(8, seed=4),
        "negative_prompt_cu_seqlens": ends,
        **others,
    }


def _motif(pipeline: str, **config: Any) -> Any:
    transformer = model(
        "MotifVideoTransformer3DModel",
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_single_layers=2,
        mlp_ratio=4.0,
        patch_size=1,
        patch_size_t=1,
        qk_norm="rms_norm",
        text_embed_dim=TEXT_WIDTH,
        rope_axes_dim=(4, 4, 4),
        **config,
    )
    return assemble(
        pipeline,
        transformer=transformer,
        scheduler=euler_scheduler(),
        vae=wan_vae(),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )


ROWS = (
    Row(
        "HunyuanVideoPipeline",
        lambda: _hunyuan("HunyuanVideoPipeline"),
        _hunyuan_arguments,
        quick=True,
    ),
    Row(
        "HunyuanSkyreelsImageToVideoPipeline",
        lambda: _hunyuan("HunyuanSkyreelsImageToVideoPipeline", in_channels=8),
        lambda: _guided_hunyuan_arguments(image=picture(SIDE)),
    ),
    Row(
        "HunyuanVideoImageToVideoPipeline",
        lambda: _hunyuan(
            "HunyuanVideoImageToVideoPipeline",
            in_channels=9,
            guidance_embeds=False,
            image_condition_type="latent_concat",
        ),
        lambda: _guided_hunyuan_arguments(image=picture(SIDE)),
    ),
    Row(
        "HunyuanVideoFramepackPipeline",
        _framepack,
        lambda: _hunyuan_arguments(image=picture(SIDE), latent_window_size=3),
    ),
    Row("HunyuanVideo15Pipeline", _hunyuan_15, lambda: {**VIDEO, **_two_prompts()}),
    Row(
        "HunyuanVideo15ImageToVideoPipeline",
        _hunyuan_15_from_picture,
        lambda: {"num_frames": VIDEO["num_frames"], "image": pil_picture(32), **_two_prompts()},
    ),
    Row(
        "HunyuanImagePipeline",
        _hunyuan_image,
        lambda: {"height": 128, "width": 128, **_two_prompts()},
    ),
    Row(
        "Kandinsky5T2VPipeline",
        lambda: kandinsky("Kandinsky5T2VPipeline", vae=hunyuan_vae(), visual_cond=False),
        lambda: kandinsky_arguments(num_frames=5),
    ),
    Row(
        "Kandinsky5T2IPipeline",
        lambda: kandinsky("Kandinsky5T2IPipeline", vae=image_vae(), visual_cond=False),
        kandinsky_arguments,
    ),
    Row(
        "Kandinsky5I2IPipeline",
        lambda: kandinsky("Kandinsky5I2IPipeline", vae=image_vae(), visual_cond=True),
        lambda: kandinsky_arguments(image=picture(SIDE)),
    ),
    Row(
        "MotifVideoPipeline",
        lambda: _motif("MotifVideoPipeline"),
        lambda: {**VIDEO, **prompts(TEXT_WIDTH, masked="_attention_mask")},
    ),
    Row(
        "HunyuanImageRefinerPipeline",
        _hunyuan_image_refiner,
        lambda: {
            "height": 32,
            "width": 32,
            "image": torch.randn(1, 4, 1, 16, 16, generator=torch.Generator().manual_seed(5)),
            **prompts(TEXT_WIDTH, masked="_embeds_mask", guided=False),
        },
    ),
)
