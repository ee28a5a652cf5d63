"""Tiny pipelines of LTX-2, which make video and sound by a scheduler each."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.pipelines.ltx2 import LTX2TextConnectors

from tiny_pipelines.building import assemble, model, prompts
from tiny_pipelines.common import TEXT_WIDTH, euler_scheduler

SIDE = 32


def _connectors() -> LTX2TextConnectors:
    torch.manual_seed(2)
    kinds = {}
    for kind in ("video", "audio"):
        kinds[f"{kind}_connector_num_attention_heads"] = 2
        kinds[f"{kind}_connector_attention_head_dim"] = 8
        kinds[f"{kind}_connector_num_layers"] = 1
        kinds[f"{kind}_connector_num_learnable_registers"] = None
    return LTX2TextConnectors(
        caption_channels=TEXT_WIDTH,
        text_proj_in_factor=1,
        rope_double_precision=False,
        rope_type="split",
        **kinds,
    )


def ltx2_vae() -> Any:
    """The VAE of LTX-2's videos."""
    return model(
        "AutoencoderKLLTX2Video",
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )


def make_ltx2(pipeline: str = "LTX2Pipeline", audio_scheduler: Any = None, **config: Any) -> Any:
    """A pipeline of two blocks; some take another scheduler for the sound."""
    transformer = model(
        "LTX2VideoTransformer3DModel",
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        caption_channels=TEXT_WIDTH,
        rope_double_precision=False,
        rope_type="split",
        **config,
    )
    audio_vae = model(
        "AutoencoderKLLTX2Audio",
        base_channels=4,
        output_channels=2,
        ch_mult=(1,),
        num_res_blocks=1,
        attn_resolutions=None,
        in_channels=2,
        resolution=32,
        latent_channels=2,
        norm_type="pixel",
        causality_axis="height",
        dropout=0.0,
        mid_block_add_attention=False,
        mel_bins=8,
    )
    beside = {} if audio_scheduler is None else {"audio_scheduler": audio_scheduler}
    return assemble(
        pipeline,
        transformer=transformer,
        scheduler=euler_scheduler(),
        vae=ltx2_vae(),
        audio_vae=audio_vae,
        connectors=_connectors(),
        **beside,
    )


def ltx2_arguments(**others: Any) -> dict[str, Any]:
    """What a call needs besides steps and noise."""
    return {
        "height": SIDE,
        "width": SIDE,
        "num_frames": 5,
        "frame_rate": 25.0,
        "stg_scale": 0.0,
        "audio_stg_scale": 0.0,
        "modality_scale": 1.0,
        "audio_modality_scale": 1.0,
        "spatio_temporal_guidance_blocks": None,
        **prompts(TEXT_WIDTH, masked="_attention_mask"),
        **others,
    }
