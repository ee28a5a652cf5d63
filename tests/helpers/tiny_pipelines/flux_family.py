"""Rows of the FLUX family: FLUX.1 with its control, fill and ControlNet pipelines, FLUX.2, and
the models of the same architecture."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLFlux2

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
from tiny_pipelines.common import POOLED_WIDTH, SIZE, TEXT_WIDTH, euler_scheduler

PIXELS = {"height": SIZE, "width": SIZE}
SMALL = {
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": TEXT_WIDTH,
    "axes_dims_rope": (2, 2, 4),
}
FLUX = {**SMALL, "patch_size": 1, "pooled_projection_dim": POOLED_WIDTH}


def _flux(pipeline: str, *, in_channels: int = 16, **parts: Any) -> Any:
    transformer = model("FluxTransformer2DModel", in_channels=in_channels, out_channels=16, **FLUX)
    return assemble(
        pipeline, transformer=transformer, scheduler=euler_scheduler(), vae=image_vae(), **parts
    )


def _controlled(pipeline: str) -> Any:
    controlnet = model("FluxControlNetModel", in_channels=16, **FLUX)
    return _flux(pipeline, controlnet=controlnet)


def _flux_arguments(**others: Any) -> dict[str, Any]:
    return {
        **PIXELS,
        "prompt_embeds": text(TEXT_WIDTH),
        "pooled_prompt_embeds": pooled(POOLED_WIDTH),
        **others,
    }


def _flux_pictures(*names: str, **others: Any) -> dict[str, Any]:
    given = {name: picture(SIZE) for name in names if name != "mask_image"}
    if "mask_image" in names:
        given["mask_image"] = inpainting_mask(SIZE)
    return _flux_arguments(**given, **others)


def _flux2(pipeline: str, **others: Any) -> Any:
    transformer = model(
        "Flux2Transformer2DModel",
        in_channels=16,
        timestep_guidance_channels=16,
        guidance_embeds=pipeline == "Flux2Pipeline",
        **{**SMALL, "axes_dims_rope": (2, 2, 2, 2)},
    )
    torch.manual_seed(1)
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=32,
    ).eval()
    return assemble(
        pipeline, transformer=transformer, scheduler=euler_scheduler(), vae=vae, **others
    )


def _chroma(pipeline: str) -> Any:
    transformer = model(
        "ChromaTransformer2DModel",
        patch_size=1,
        in_channels=16,
        approximator_hidden_dim=16,
        approximator_layers=1,
        approximator_num_channels=16,
        **SMALL,
    )
    # ChromaInpaintPipeline asks for it, and no Chroma checkpoint has it.
    transformer.register_to_config(guidance_embeds=False)
    return assemble(pipeline, transformer=transformer, scheduler=euler_scheduler(), vae=image_vae())


def _chroma_arguments(**others: Any) -> dict[str, Any]:
    given = prompts(TEXT_WIDTH, masked="_attention_mask")
    given = {name: value.bool() if "mask" in name else value for name, value in given.items()}
    return {**PIXELS, **given, **others}


def _bria() -> Any:
    transformer = model(
        "BriaTransformer2DModel",
        patch_size=1,
        in_channels=16,
        pooled_projection_dim=None,
        **{**SMALL, "axes_dims_rope": (0, 4, 4)},
    )
    return assemble(
        "BriaPipeline", transformer=transformer, scheduler=euler_scheduler(), vae=image_vae()
    )


def _ovis() -> Any:
    transformer = model(
        "OvisImageTransformer2DModel", patch_size=1, in_channels=16, out_channels=16, **SMALL
    )
    return assemble("OvisImagePipeline", transformer=transformer, scheduler=euler_scheduler())


ROWS = (
    Row("FluxPipeline", lambda: _flux("FluxPipeline"), _flux_arguments, quick=True),
    Row(
        "FluxImg2ImgPipeline",
        lambda: _flux("FluxImg2ImgPipeline"),
        lambda: _flux_pictures("image", strength=0.8),
        quick=True,
    ),
    Row(
        "FluxInpaintPipeline",
        lambda: _flux("FluxInpaintPipeline"),
        lambda: _flux_pictures("image", "mask_image", strength=1.0),
    ),
    Row(
        "FluxFillPipeline",
        lambda: _flux("FluxFillPipeline", in_channels=288),
        lambda: _flux_pictures("image", "mask_image"),
    ),
    Row(
        "FluxControlPipeline",
        lambda: _flux("FluxControlPipeline", in_channels=32),
        lambda: _flux_pictures("control_image"),
    ),
    Row(
        "FluxControlImg2ImgPipeline",
        lambda: _flux("FluxControlImg2ImgPipeline", in_channels=32),
        lambda: _flux_pictures("image", "control_image", strength=1.0),
    ),
    Row(
        "FluxControlInpaintPipeline",
        lambda: _flux("FluxControlInpaintPipeline", in_channels=32),
        lambda: _flux_pictures("image", "control_image", "mask_image", strength=1.0),
    ),
    Row(
        "FluxControlNetPipeline",
        lambda: _controlled("FluxControlNetPipeline"),
        lambda: _flux_pictures("control_image"),
    ),
    Row(
        "FluxControlNetImg2ImgPipeline",
        lambda: _controlled("FluxControlNetImg2ImgPipeline"),
        lambda: _flux_pictures("image", "control_image", strength=1.0),
    ),
    Row(
        "FluxControlNetInpaintPipeline",
        lambda: _controlled("FluxControlNetInpaintPipeline"),
        lambda: _flux_pictures("image", "mask_image", "control_image", strength=1.0),
    ),
    Row(
        "FluxKontextPipeline",
        lambda: _flux("FluxKontextPipeline"),
        lambda: _flux_pictures("image", max_area=SIZE**2, _auto_resize=False),
    ),
    Row(
        "FluxKontextInpaintPipeline",
        lambda: _flux("FluxKontextInpaintPipeline"),
        lambda: _flux_pictures(
            "image", "mask_image", max_area=SIZE**2, _auto_resize=False, strength=1.0
        ),
    ),
    Row(
        "Flux2Pipeline",
        lambda: _flux2("Flux2Pipeline"),
        lambda: {**PIXELS, "prompt_embeds": text(TEXT_WIDTH)},
    ),
    Row(
        "Flux2KleinPipeline",
        lambda: _flux2("Flux2KleinPipeline"),
        lambda: {**PIXELS, **prompts(TEXT_WIDTH)},
    ),
    Row(
        "Flux2KleinInpaintPipeline",
        lambda: _flux2("Flux2KleinInpaintPipeline"),
        lambda: {
            **PIXELS,
            **prompts(TEXT_WIDTH),
            "image": picture(SIZE),
            "mask_image": inpainting_mask(SIZE),
            "strength": 1.0,
        },
    ),
    Row(
        "Flux2KleinKVPipeline",
        lambda: _flux2("Flux2KleinKVPipeline"),
        lambda: {**PIXELS, "prompt_embeds": text(TEXT_WIDTH)},
    ),
    Row("ChromaPipeline", lambda: _chroma("ChromaPipeline"), _chroma_arguments),
    Row(
        "ChromaImg2ImgPipeline",
        lambda: _chroma("ChromaImg2ImgPipeline"),
        lambda: _chroma_arguments(image=picture(SIZE), strength=1.0),
    ),
    Row(
        "ChromaInpaintPipeline",
        lambda: _chroma("ChromaInpaintPipeline"),
        lambda: _chroma_arguments(
            image=picture(SIZE), mask_image=inpainting_mask(SIZE), strength=1.0
        ),
    ),
    Row("BriaPipeline", _bria, lambda: {**PIXELS, **prompts(TEXT_WIDTH)}),
    Row(
        "OvisImagePipeline",
        _ovis,
        lambda: {**PIXELS, **prompts(TEXT_WIDTH), "negative_prompt": None},
    ),
)
