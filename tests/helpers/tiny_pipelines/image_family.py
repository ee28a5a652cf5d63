"""Rows of other image models: CogView, AuraFlow, PixArt, Sana, HiDream, PRX, Krea, and others."""

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
    answering,
    assemble,
    image_vae,
    mask,
    model,
    picture,
    pooled,
    prompts,
    text,
    wan_vae,
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


def _hunyuan_dit() -> Any:
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
        "HunyuanDiTPipeline",
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


def _hidream() -> Any:
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
        num_routed_experts=2,
        num_activated_experts=1,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32),
        llama_layers=(0, 1),
    )
    return assemble(
        "HiDreamImagePipeline",
        transformer=transformer,
        scheduler=euler_scheduler(),
        vae=image_vae(),
    )


def _hidream_arguments() -> dict[str, Any]:
    def llama(seed: int) -> torch.Tensor:
        return torch.stack([text(TEXT_WIDTH, seed=seed), text(TEXT_WIDTH, seed=seed + 1)])

    return {
        **PIXELS,
        "prompt_embeds_t5": text(TEXT_WIDTH),
        "negative_prompt_embeds_t5": text(TEXT_WIDTH, seed=3),
        "prompt_embeds_llama3": llama(11),
        "negative_prompt_embeds_llama3": llama(13),
        "pooled_prompt_embeds": pooled(8),
        "negative_pooled_prompt_embeds": pooled(8, seed=4),
    }


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
    given = _unbinned()
    del given["negative_prompt"]
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
        in_channels=16,
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
    Row("HunyuanDiTPipeline", _hunyuan_dit, _hunyuan_dit_arguments),
    Row("DiTPipeline", _dit, lambda: {"class_labels": [1], "output_type": "np"}),
    Row(
        "SanaPipeline",
        lambda: _sana("SanaPipeline", euler_scheduler()),
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
    Row("HiDreamImagePipeline", _hidream, _hidream_arguments),
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
