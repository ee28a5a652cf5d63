"""Rows of the newer image models: PRX, Krea 2, ERNIE, Nucleus, Joy, FIBO, HiDream, LongCat."""

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
    pooled,
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


def prx_arguments() -> dict[str, Any]:
    """What PRX needs besides steps and noise."""
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


def bria_fibo(pipeline: str) -> Any:
    """A pipeline of FIBO, whose prompt is encoded already."""
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
        pipeline,
        transformer=transformer,
        scheduler=euler_scheduler(use_dynamic_shifting=True),
        vae=wan_vae(),
    )
    layers = [text(TEXT_WIDTH, seed=40 + layer) for layer in range(4)]
    other_layers = [text(TEXT_WIDTH, seed=50 + layer) for layer in range(4)]
    encoded = (text(32), text(32, seed=3), torch.zeros(5, 3), mask(), mask(), layers, other_layers)
    return answering(pipe, "encode_prompt", encoded)


def _hidream() -> Any:
    """Scales every picture to the size of its default, which is a small one here."""
    transformer = model(
        "HiDreamImageTransformer2DModel",
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=[TEXT_WIDTH, TEXT_WIDTH],
        text_emb_dim=8,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(8, 8),
        llama_layers=[0, 1, 2, 3],
        force_inference_output=True,
    )
    pipe = assemble(
        "HiDreamImagePipeline",
        transformer=transformer,
        scheduler=euler_scheduler(),
        vae=image_vae(),
    )
    pipe.default_sample_size = SIZE // pipe.vae_scale_factor
    return pipe


def _hidream_arguments() -> dict[str, Any]:
    given: dict[str, Any] = dict(PIXELS)
    for name, seed in (("", 1), ("negative_", 3)):
        given[f"{name}prompt_embeds_t5"] = text(TEXT_WIDTH, seed=seed)
        given[f"{name}prompt_embeds_llama3"] = torch.stack([text(TEXT_WIDTH, seed=seed)] * 4)
        given[f"{name}pooled_prompt_embeds"] = pooled(8, seed=seed)
    return given


def _bria_fibo2() -> Any:
    transformer = model(
        "BriaFibo2Transformer2DModel",
        in_channels=4,
        patch_size=2,
        dim=16,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=TEXT_WIDTH,
        injection_layer_ids=(0, 0, 0, 1, 1),
        perceiver_num_layers=1,
        min_num_gist_tokens=4,
        max_num_gist_tokens=8,
        gist_step=4,
        gist_min_text_len=4,
        gist_max_text_len=16,
        axes_dims=(4, 2, 2),
        axes_lens=(64, 32, 32),
    )
    vae = model(
        "AutoencoderKLFlux2",
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
    )
    return assemble(
        "BriaFibo2Pipeline", transformer=transformer, scheduler=euler_scheduler(), vae=vae
    )


def _bria_fibo2_arguments() -> dict[str, Any]:
    """Embeddings of six layers of its text encoder."""

    def layers(seed: int) -> torch.Tensor:
        return torch.stack([text(TEXT_WIDTH, seed=seed + each) for each in range(6)], dim=1)

    masks = {f"{name}prompt_embeds_mask": mask().bool() for name in ("", "negative_")}
    return {
        **PIXELS,
        "prompt_embeds": layers(10),
        "negative_prompt_embeds": layers(20),
        **masks,
    }


def longcat_transformer() -> Any:
    """A transformer of LongCat-Image."""
    return model(
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


def _longcat() -> Any:
    pipe = assemble(
        "LongCatImagePipeline",
        transformer=longcat_transformer(),
        scheduler=euler_scheduler(),
        vae=image_vae(),
    )
    return answering(pipe, "encode_prompt", (text(TEXT_WIDTH), torch.zeros(5, 3)))


ROWS = (
    Row("PRXPipeline", _prx, prx_arguments),
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
    Row(
        "BriaFiboPipeline",
        lambda: bria_fibo("BriaFiboPipeline"),
        lambda: {**PIXELS, "prompt": "{}"},
    ),
    Row(
        "LongCatImagePipeline",
        _longcat,
        lambda: {**PIXELS, "prompt": "a cat", "enable_prompt_rewrite": False},
    ),
    Row("HiDreamImagePipeline", _hidream, _hidream_arguments, quick=True),
    Row("BriaFibo2Pipeline", _bria_fibo2, _bria_fibo2_arguments),
)
