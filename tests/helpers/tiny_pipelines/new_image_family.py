"""Rows of the newer image models: PRX, Krea 2, ERNIE, Nucleus, Joy, FIBO, LongCat."""

from __future__ import annotations

from typing import Any

import torch

from tiny_pipelines.building import (
    Row,
    answering,
    assemble,
    image_vae,
    mask,
    model,
    prompts,
    text,
    wan_vae,
)
from tiny_pipelines.common import SIZE, TEXT_WIDTH, euler_scheduler

PIXELS = {"height": SIZE, "width": SIZE}
MASKED = "_attention_mask"


def _prx() -> Any:
    transformer = model(
        "PRXTransformer2DModel",
        patch_size=1,
        in_channels=4,
        context_in_dim=TEXT_WIDTH,
        hidden_size=8,
        mlp_ratio=2.0,
        num_heads=2,
        depth=2,
        axes_dim=[2, 2],
    )
    return assemble(
        "PRXPipeline", transformer=transformer, scheduler=euler_scheduler(), vae=image_vae()
    )


def _prx_arguments() -> dict[str, Any]:
    given = {
        **PIXELS,
        **prompts(TEXT_WIDTH, masked=MASKED),
        "use_resolution_binning": False,
    }
    return {name: value.bool() if "mask" in name else value for name, value in given.items()}


def _krea() -> Any:
    transformer = model(
        "Krea2Transformer2DModel",
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        timestep_embed_dim=8,
        text_hidden_dim=TEXT_WIDTH,
        num_text_layers=3,
        text_num_attention_heads=2,
        text_num_key_value_heads=1,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
        rope_theta=1000.0,
    )
    return assemble(
        "Krea2Pipeline",
        transformer=transformer,
        scheduler=euler_scheduler(use_dynamic_shifting=True),
        text_encoder_select_layers=(0, 1, 2),
    )


def _krea_arguments() -> dict[str, Any]:
    def layers(seed: int) -> torch.Tensor:
        return torch.stack([text(TEXT_WIDTH, seed=seed + layer) for layer in range(3)], dim=2)

    return {
        **PIXELS,
        "prompt_embeds": layers(20),
        "negative_prompt_embeds": layers(30),
        "prompt_embeds_mask": mask().bool(),
        "negative_prompt_embeds_mask": mask().bool(),
    }


def _ernie() -> Any:
    transformer = model(
        "ErnieImageTransformer2DModel",
        hidden_size=16,
        num_attention_heads=2,
        num_layers=2,
        ffn_hidden_size=32,
        in_channels=16,
        out_channels=16,
        text_in_dim=TEXT_WIDTH,
        rope_axes_dim=(4, 2, 2),
    )
    return assemble(
        "ErnieImagePipeline", transformer=transformer, scheduler=euler_scheduler(), vae=None
    )


def _nucleus() -> Any:
    transformer = model(
        "NucleusMoEImageTransformer2DModel",
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        axes_dims_rope=(8, 4, 4),
        moe_enabled=False,
        capacity_factors=[8.0, 8.0],
    )
    return assemble("NucleusMoEImagePipeline", transformer=transformer, scheduler=euler_scheduler())


def _joy() -> Any:
    transformer = model(
        "JoyImageEditTransformer3DModel",
        patch_size=[1, 2, 2],
        in_channels=4,
        hidden_size=32,
        num_attention_heads=2,
        text_dim=TEXT_WIDTH,
        num_layers=2,
        rope_dim_list=[4, 6, 6],
        theta=256,
    )
    return assemble(
        "JoyImageEditPipeline",
        transformer=transformer,
        scheduler=euler_scheduler(),
        vae=wan_vae(),
    )


def _bria_fibo() -> Any:
    transformer = model(
        "BriaFiboTransformer2DModel",
        patch_size=1,
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        text_encoder_dim=TEXT_WIDTH,
        pooled_projection_dim=None,
        axes_dims_rope=[0, 4, 4],
    )
    pipe = assemble(
        "BriaFiboPipeline",
        transformer=transformer,
        scheduler=euler_scheduler(use_dynamic_shifting=True),
        vae=wan_vae(),
    )
    layers = [text(TEXT_WIDTH, seed=40 + layer) for layer in range(4)]
    other_layers = [text(TEXT_WIDTH, seed=50 + layer) for layer in range(4)]
    encoded = (text(32), text(32, seed=3), torch.zeros(5, 3), mask(), mask(), layers, other_layers)
    return answering(pipe, "encode_prompt", encoded)


def _longcat() -> Any:
    transformer = model(
        "LongCatImageTransformer2DModel",
        patch_size=1,
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        axes_dims_rope=[2, 2, 4],
    )
    pipe = assemble(
        "LongCatImagePipeline",
        transformer=transformer,
        scheduler=euler_scheduler(),
        vae=image_vae(),
    )
    return answering(pipe, "encode_prompt", (text(TEXT_WIDTH), torch.zeros(5, 3)))


ROWS = (
    Row("PRXPipeline", _prx, _prx_arguments),
    Row("Krea2Pipeline", _krea, _krea_arguments),
    Row(
        "ErnieImagePipeline",
        _ernie,
        lambda: {
            **PIXELS,
            "prompt_embeds": [text(TEXT_WIDTH)[0]],
            "negative_prompt_embeds": [text(TEXT_WIDTH, seed=3)[0]],
            "use_pe": False,
        },
    ),
    Row(
        "NucleusMoEImagePipeline",
        _nucleus,
        lambda: {**PIXELS, **prompts(TEXT_WIDTH, masked="_embeds_mask")},
    ),
    Row(
        "JoyImageEditPipeline",
        _joy,
        lambda: {**PIXELS, **prompts(TEXT_WIDTH, masked="_embeds_mask")},
    ),
    Row("BriaFiboPipeline", _bria_fibo, lambda: {**PIXELS, "prompt": "{}"}),
    Row(
        "LongCatImagePipeline",
        _longcat,
        lambda: {**PIXELS, "prompt": "a cat", "enable_prompt_rewrite": False},
    ),
)
