"""Rows of pipelines that make sound: Stable Audio, and Kandinsky 6 beside a video."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import EDMDPMSolverMultistepScheduler
from diffusers.pipelines.stable_audio import StableAudioProjectionModel
from diffusers.pipelines.stable_audio_3 import StableAudio3DurationEmbedder

from tiny_pipelines.building import (
    Row,
    assemble,
    hunyuan_vae,
    mask,
    model,
    picture,
    pooled,
    prompts,
    text,
)
from tiny_pipelines.common import TEXT_WIDTH, euler_scheduler

SIDE = 32
SECONDS = 0.5


def _stable_audio() -> Any:
    transformer = model(
        "StableAudioDiTModel",
        sample_size=4,
        in_channels=3,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        out_channels=3,
        cross_attention_dim=4,
        time_proj_dim=8,
        global_states_input_dim=8,
        cross_attention_input_dim=4,
    )
    vae = model(
        "AutoencoderOobleck",
        encoder_hidden_size=6,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=3,
        audio_channels=2,
        channel_multiples=[2, 4],
        sampling_rate=4,
    )
    torch.manual_seed(2)
    projection = StableAudioProjectionModel(
        text_encoder_dim=4, conditioning_dim=4, min_value=0, max_value=32
    )
    return assemble(
        "StableAudioPipeline",
        transformer=transformer,
        scheduler=EDMDPMSolverMultistepScheduler(solver_order=2, prediction_type="v_prediction"),
        vae=vae,
        projection_model=projection,
    )


def _stable_audio_arguments() -> dict[str, Any]:
    return {**prompts(4), "audio_end_in_s": 1.0}


def _stable_audio_3(pipeline: str) -> Any:
    transformer = model(
        "StableAudio3DiTModel",
        io_channels=4,
        embed_dim=16,
        depth=2,
        num_heads=2,
        cond_token_dim=TEXT_WIDTH,
        global_cond_dim=TEXT_WIDTH,
        local_add_cond_dim=5,
        timestep_features_dim=8,
        num_memory_tokens=2,
    )
    vae = model(
        "AutoencoderSAME",
        patch_size=4,
        encoder_channels=4,
        encoder_c_mults=(2,),
        encoder_strides=(2,),
        encoder_transformer_depths=(1,),
        latent_dim=4,
        dim_heads=4,
        sampling_rate=160,
    )
    torch.manual_seed(2)
    embedder = StableAudio3DurationEmbedder(output_dim=TEXT_WIDTH, fourier_dim=8)
    scheduler = euler_scheduler(shift=1.0)
    return assemble(
        pipeline,
        transformer=transformer,
        scheduler=scheduler,
        vae=vae,
        duration_embedder=embedder,
    )


def _stable_audio_3_arguments(**others: Any) -> dict[str, Any]:
    return {
        "prompt_embeds": text(TEXT_WIDTH),
        "encoder_attention_mask": mask(),
        "duration": SECONDS,
        **others,
    }


def _sound() -> torch.Tensor:
    return torch.rand(1, 2, 80, generator=torch.Generator().manual_seed(5)) - 0.5


def _kandinsky6() -> Any:
    transformer = model(
        "Kandinsky6Transformer3DModel",
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=TEXT_WIDTH,
        in_text_dim2=8,
        time_dim=16,
        patch_size=(1, 2, 2),
        model_dim=16,
        ff_dim=16,
        num_text_blocks=1,
        num_visual_blocks=2,
        axes_dims=(4, 2, 2),
        in_audio_dim=4,
        out_audio_dim=4,
        text_token_padding=True,
        ca_rope=True,
        cross_gates=True,
        fix_modulation=True,
        visual_token_type_num_embeddings=2,
    )
    audio_vae = model(
        "MMAudioVAE",
        mel_bins=8,
        latent_channels=4,
        hidden_channels=8,
        channel_multipliers=(1, 2),
        layers_per_block=1,
        sample_rate=400,
    )
    vocoder = model(
        "MMAudioVocoder",
        num_mels=8,
        upsample_initial_channel=8,
        upsample_rates=(2, 2),
        upsample_kernel_sizes=(4, 4),
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1,),),
    )
    return assemble(
        "Kandinsky6TI2VAPipeline",
        transformer=transformer,
        scheduler=euler_scheduler(shift=5.0),
        vae=hunyuan_vae(),
        audio_vae=audio_vae,
        vocoder=vocoder,
    )


def _kandinsky6_arguments(**others: Any) -> dict[str, Any]:
    return {
        "height": SIDE,
        "width": SIDE,
        "num_frames": 5,
        **prompts(TEXT_WIDTH),
        "pooled_prompt_embeds": pooled(8),
        "negative_pooled_prompt_embeds": pooled(8, seed=4),
        **others,
    }


ROWS = (
    Row("StableAudioPipeline", _stable_audio, _stable_audio_arguments),
    Row(
        "StableAudio3Pipeline",
        lambda: _stable_audio_3("StableAudio3Pipeline"),
        lambda: _stable_audio_3_arguments(
            guidance_scale=4.0,
            negative_prompt_embeds=text(TEXT_WIDTH, seed=3),
            negative_encoder_attention_mask=mask(),
        ),
    ),
    Row(
        "StableAudio3AudioToAudioPipeline",
        lambda: _stable_audio_3("StableAudio3AudioToAudioPipeline"),
        lambda: _stable_audio_3_arguments(audio=_sound()),
    ),
    Row(
        "StableAudio3InpaintPipeline",
        lambda: _stable_audio_3("StableAudio3InpaintPipeline"),
        lambda: _stable_audio_3_arguments(
            audio=_sound(), mask_start_seconds=0.1, mask_end_seconds=0.3
        ),
    ),
    Row("Kandinsky6TI2VAPipeline", _kandinsky6, _kandinsky6_arguments),
    Row(
        "Kandinsky6TI2VAPipeline (from a picture)",
        _kandinsky6,
        lambda: _kandinsky6_arguments(image=picture(SIDE)),
    ),
)
