"""Rows of what came last: Qwen-Image 2.1, PRX in pixels, SANA-WM, and of what edits and refines."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tiny_pipelines.building import (
    Row,
    answering,
    assemble,
    hunyuan_vae,
    mask,
    model,
    picture,
    pil_picture,
    prompts,
    text,
    wan_vae,
)
from tiny_pipelines.common import SIZE, TEXT_WIDTH, euler_scheduler
from tiny_pipelines.hunyuan_family import kandinsky, kandinsky_arguments
from tiny_pipelines.ltx2 import ltx2_vae
from tiny_pipelines.new_image_family import bria_fibo, prx_arguments
from tiny_pipelines.qwen_family import z_image
from tiny_pipelines.z_image import z_image_arguments

PIXELS = {"height": SIZE, "width": SIZE}


def _prx_pixel() -> Any:
    transformer = model(
        "PRXTransformer2DModel",
        patch_size=8,
        in_channels=3,
        context_in_dim=TEXT_WIDTH,
        hidden_size=8,
        mlp_ratio=2.0,
        num_heads=2,
        depth=2,
        axes_dim=[2, 2],
        bottleneck_size=8,
        resolution_embeds=True,
    )
    return assemble("PRXPixelPipeline", transformer=transformer, scheduler=euler_scheduler())


class _Processor:
    """Says how many tokens the system's prompt has, and which one stands for a picture."""

    tokenizer = SimpleNamespace(encode=lambda _: [0])

    def apply_chat_template(self, *_: Any, **__: Any) -> list[list[int]]:
        return [[1]]


def _qwen21() -> Any:
    transformer = model(
        "QwenImage21Transformer2DModel",
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        context_in_dim=TEXT_WIDTH,
        axes_dims_rope=(4, 2, 2),
    )
    return assemble(
        "QwenImage21Pipeline",
        transformer=transformer,
        scheduler=euler_scheduler(),
        processor=_Processor(),
    )


def _qwen21_arguments() -> dict[str, Any]:
    return {**PIXELS, **prompts(TEXT_WIDTH, masked="_embeds_mask"), "true_cfg_scale": 3.0}


def _sana_wm() -> Any:
    transformer = model(
        "SanaWMTransformer3DModel",
        in_channels=4,
        num_layers=2,
        hidden_size=16,
        num_attention_heads=2,
        softmax_every_n=2,
        linear_head_dim=8,
        chunk_plucker_channels=12,
        chunk_plucker_post_attn_blocks=2,
        image_size=SIZE,
        caption_channels=TEXT_WIDTH,
    )
    vae = ltx2_vae()
    return assemble("SanaWMPipeline", transformer=transformer, scheduler=euler_scheduler(), vae=vae)


def _sana_wm_arguments() -> dict[str, Any]:
    return {
        "height": 32,
        "width": 32,
        "image": pil_picture(32),
        "prompt": "rain",
        "c2w": np.tile(np.eye(4, dtype=np.float32), (9, 1, 1)),
        "intrinsics": [30.0, 30.0, 16.0, 16.0],
        "num_frames": 9,
        **{
            f"{sign}prompt_{name}": value
            for sign, seed in (("", 1), ("negative_", 3))
            for name, value in (
                ("embeds", text(TEXT_WIDTH, seed=seed)[:, None]),
                ("attention_mask", mask()),
            )
        },
    }


def _joy_edit_plus() -> Any:
    transformer = model(
        "JoyImageEditPlusTransformer3DModel",
        patch_size=[1, 2, 2],
        in_channels=4,
        hidden_size=32,
        num_attention_heads=2,
        text_dim=TEXT_WIDTH,
        num_layers=2,
        rope_dim_list=[4, 6, 6],
        theta=256,
    )
    pipe = assemble(
        "JoyImageEditPlusPipeline",
        transformer=transformer,
        scheduler=euler_scheduler(),
        vae=wan_vae(),
    )
    # It wants pictures of some hundred pixels and more, and makes others so.
    return answering(pipe, "encode_prompt_multiple_images", (text(TEXT_WIDTH), mask()))


def _kandinsky_super_resolution() -> Any:
    transformer = model(
        "Kandinsky6SRTransformer3DModel",
        in_visual_dim=4,
        out_visual_dim=4,
        time_dim=8,
        model_dim=16,
        ff_dim=16,
        num_visual_blocks=2,
        axes_dims=(4, 2, 2),
        tile_sizes=((2 * SIZE, 2 * SIZE),),
    )
    vae = model(
        "Kandinsky6SRVAE",
        latent_channels=4,
        encoder_block_out_channels=(4, 4, 4, 4, 4),
        decoder_block_out_channels=(4, 4, 4, 4, 4),
        layers_per_block=1,
    )
    return assemble(
        "Kandinsky6SRPipeline", transformer=transformer, scheduler=euler_scheduler(), vae=vae
    )


def _super_resolution_arguments() -> dict[str, Any]:
    """A video of just one tile, which it gives back in pixels."""
    frames = torch.stack([picture(SIZE, seed=seed)[0] for seed in range(5)])
    return {"video": frames[None], "resolution_scale": 2, "output_type": "pt"}


def _omni_arguments() -> dict[str, Any]:
    """A prompt of one part, as there is no picture between two."""
    given = z_image_arguments()
    return {
        name: [[each] for each in value] if name.endswith("embeds") else value
        for name, value in given.items()
    }


def _ace_step() -> Any:
    transformer = model(
        "AceStepTransformer1DModel",
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        in_channels=12,
        audio_acoustic_hidden_dim=4,
        sliding_window=8,
    )
    encoder = model(
        "AceStepConditionEncoder",
        hidden_size=16,
        intermediate_size=32,
        text_hidden_dim=TEXT_WIDTH,
        timbre_hidden_dim=4,
        num_lyric_encoder_hidden_layers=1,
        num_timbre_encoder_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        sliding_window=8,
    )
    vae = model(
        "AutoencoderOobleck",
        encoder_hidden_size=6,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=4,
        audio_channels=2,
        channel_multiples=[2, 4],
        sampling_rate=40,
    )
    pipe = assemble(
        "AceStepPipeline",
        transformer=transformer,
        condition_encoder=encoder,
        scheduler=euler_scheduler(num_train_timesteps=1, shift=1.0),
        vae=vae,
    )
    encoded = text(TEXT_WIDTH), mask(), text(TEXT_WIDTH, seed=3), mask()
    return answering(pipe, "encode_prompt", encoded)


def _bria_fibo_edit_arguments() -> dict[str, Any]:
    return {
        **PIXELS,
        "prompt": json.dumps({"edit_instruction": "make it blue"}),
        "image": pil_picture(SIZE),
    }


ROWS = (
    Row("PRXPixelPipeline", _prx_pixel, prx_arguments),
    Row("QwenImage21Pipeline", _qwen21, _qwen21_arguments),
    Row(
        "QwenImage21Pipeline (no kept keys)",
        _qwen21,
        lambda: {**_qwen21_arguments(), "use_kv_cache": False},
    ),
    Row("JoyImageEditPlusPipeline", _joy_edit_plus, lambda: {**PIXELS, "prompt": "blue"}),
    Row("ZImageOmniPipeline", lambda: z_image("ZImageOmniPipeline"), _omni_arguments),
    Row("AceStepPipeline", _ace_step, lambda: {"prompt": "rain", "audio_duration": 1.0}),
    Row(
        "BriaFiboEditPipeline",
        lambda: bria_fibo("BriaFiboEditPipeline"),
        _bria_fibo_edit_arguments,
    ),
    Row("SanaWMPipeline", _sana_wm, _sana_wm_arguments),
    Row("Kandinsky6SRPipeline", _kandinsky_super_resolution, _super_resolution_arguments),
    Row(
        "Kandinsky5I2VPipeline",
        lambda: kandinsky("Kandinsky5I2VPipeline", vae=hunyuan_vae(), visual_cond=True),
        lambda: kandinsky_arguments(
            image=picture(32), num_frames=17
        ),  # it evens out the first four of its latents by the others
    ),
)
