"""Rows of other video models: LTX, Mochi, CogVideoX, EasyAnimate, Allegro, Sana Video."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import CogVideoXDDIMScheduler, EulerAncestralDiscreteScheduler

from tiny_pipelines.building import Row, assemble, model, picture, prompts, wan_vae
from tiny_pipelines.common import TEXT_WIDTH, dpm_scheduler, euler_scheduler

SIDE = 32
PIXELS = {"height": SIDE, "width": SIDE}
VIDEO = {**PIXELS, "num_frames": 9}
MASKED = "_attention_mask"


def _ltx(pipeline: str) -> Any:
    transformer = model(
        "LTXVideoTransformer3DModel",
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=2,
        caption_channels=TEXT_WIDTH,
    )
    vae = model(
        "AutoencoderKLLTXVideo",
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    return assemble(pipeline, transformer=transformer, scheduler=euler_scheduler(), vae=vae)


def _ltx_arguments(**others: Any) -> dict[str, Any]:
    return {**VIDEO, **prompts(TEXT_WIDTH, masked=MASKED), **others}


def _mochi() -> Any:
    transformer = model(
        "MochiTransformer3DModel",
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=3,
        pooled_projection_dim=8,
        in_channels=12,
        out_channels=None,
        qk_norm="rms_norm",
        text_embed_dim=TEXT_WIDTH,
        time_embed_dim=4,
        activation_fn="swiglu",
        max_sequence_length=16,
    )
    return assemble("MochiPipeline", transformer=transformer, scheduler=euler_scheduler(shift=1.0))


def _mochi_arguments() -> dict[str, Any]:
    given = prompts(TEXT_WIDTH, masked=MASKED)
    given = {name: value.bool() if "mask" in name else value for name, value in given.items()}
    return {**VIDEO, **given, "num_frames": 7}


def _cogvideox(pipeline: str, **config: Any) -> Any:
    usual = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 4,
        "text_embed_dim": TEXT_WIDTH,
        "num_layers": 2,
        "sample_width": 4,
        "sample_height": 4,
        "sample_frames": 9,
        "patch_size": 2,
        "temporal_compression_ratio": 4,
        "max_text_seq_length": 5,
    }
    vae = model(
        "AutoencoderKLCogVideoX",
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    return assemble(
        pipeline,
        transformer=model("CogVideoXTransformer3DModel", **{**usual, **config}),
        scheduler=CogVideoXDDIMScheduler(),
        vae=vae,
    )


def _easyanimate(pipeline: str = "EasyAnimatePipeline", **config: Any) -> Any:
    usual = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 2,
        "text_embed_dim": TEXT_WIDTH,
        "num_layers": 2,
        "sample_width": 4,
        "sample_height": 4,
        "patch_size": 2,
        "mmdit_layers": 2,
    }
    transformer = model("EasyAnimateTransformer3DModel", **{**usual, **config})
    vae = model(
        "AutoencoderKLMagvit",
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=(
            "SpatialDownBlock3D",
            "SpatialTemporalDownBlock3D",
            "SpatialTemporalDownBlock3D",
            "SpatialTemporalDownBlock3D",
        ),
        up_block_types=(
            "SpatialUpBlock3D",
            "SpatialTemporalUpBlock3D",
            "SpatialTemporalUpBlock3D",
            "SpatialTemporalUpBlock3D",
        ),
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
    )
    return assemble(pipeline, transformer=transformer, scheduler=euler_scheduler(), vae=vae)


def _easyanimate_arguments(**others: Any) -> dict[str, Any]:
    return {**VIDEO, **prompts(TEXT_WIDTH, masked=MASKED), **others}


def _clip() -> torch.Tensor:
    """As many frames as are made, one like the other."""
    return picture(SIDE)[:, :, None].expand(-1, -1, VIDEO["num_frames"], -1, -1)


def _allegro() -> Any:
    transformer = model(
        "AllegroTransformer3DModel",
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        cross_attention_dim=24,
        sample_width=4,
        sample_height=4,
        sample_frames=3,
        caption_channels=TEXT_WIDTH,
    )
    return assemble(
        "AllegroPipeline",
        transformer=transformer,
        scheduler=EulerAncestralDiscreteScheduler(),
    )


def _sana_video(pipeline: str, scheduler: Any) -> Any:
    transformer = model(
        "SanaVideoTransformer3DModel",
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=TEXT_WIDTH,
        mlp_ratio=2.5,
        sample_size=8,
        patch_size=(1, 2, 2),
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    return assemble(pipeline, transformer=transformer, scheduler=scheduler, vae=wan_vae())


def _sana_video_arguments(**others: Any) -> dict[str, Any]:
    return {
        **PIXELS,
        "frames": 5,
        **prompts(TEXT_WIDTH, masked=MASKED),
        "negative_prompt": None,
        "use_resolution_binning": False,
        **others,
    }


ROWS = (
    Row("LTXPipeline", lambda: _ltx("LTXPipeline"), _ltx_arguments, quick=True),
    Row(
        "LTXImageToVideoPipeline",
        lambda: _ltx("LTXImageToVideoPipeline"),
        lambda: _ltx_arguments(image=picture(SIDE)),
    ),
    Row(
        "LTXConditionPipeline",
        lambda: _ltx("LTXConditionPipeline"),
        lambda: _ltx_arguments(image=picture(SIDE)),
    ),
    Row("MochiPipeline", _mochi, _mochi_arguments),
    Row(
        "CogVideoXPipeline",
        lambda: _cogvideox("CogVideoXPipeline"),
        lambda: {**VIDEO, **prompts(TEXT_WIDTH)},
        quick=True,
    ),
    Row(
        "CogVideoXImageToVideoPipeline",
        lambda: _cogvideox(
            "CogVideoXImageToVideoPipeline",
            in_channels=8,
            use_rotary_positional_embeddings=True,
            use_learned_positional_embeddings=True,
        ),
        lambda: {**VIDEO, **prompts(TEXT_WIDTH), "image": picture(SIDE)},
    ),
    Row("EasyAnimatePipeline", _easyanimate, _easyanimate_arguments),
    Row(
        "EasyAnimateInpaintPipeline",
        lambda: _easyanimate(
            "EasyAnimateInpaintPipeline", in_channels=12, resize_inpaint_mask_directly=False
        ),
        lambda: _easyanimate_arguments(video=_clip(), mask_video=_clip()[:, :1].round()),
    ),
    Row(
        "AllegroPipeline",
        _allegro,
        lambda: {**VIDEO, **prompts(TEXT_WIDTH, masked=MASKED), "negative_prompt": None},
    ),
    Row(
        "SanaVideoPipeline",
        lambda: _sana_video("SanaVideoPipeline", dpm_scheduler()),
        _sana_video_arguments,
    ),
    Row(
        "SanaImageToVideoPipeline",
        lambda: _sana_video("SanaImageToVideoPipeline", euler_scheduler()),
        lambda: _sana_video_arguments(image=picture(SIDE)),
    ),
)
