"""Tiny pipelines with ControlNets, built like the others.

A ControlNet's last layers are zero when it is made, which training ends; here they are random, so
that a wrong output of it shows in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKLQwenImage,
    FluxControlNetImg2ImgPipeline,
    FluxControlNetInpaintPipeline,
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxMultiControlNetModel,
    QwenImageControlNetInpaintPipeline,
    QwenImageControlNetModel,
    QwenImageControlNetPipeline,
    QwenImageMultiControlNetModel,
    SanaControlNetModel,
    SanaControlNetPipeline,
    SanaTransformer2DModel,
    SD3ControlNetModel,
    SD3MultiControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3ControlNetInpaintingPipeline,
    StableDiffusion3ControlNetPipeline,
    ZImageControlNetInpaintPipeline,
    ZImageControlNetModel,
    ZImageControlNetPipeline,
)

from tiny_pipelines.common import (
    POOLED_WIDTH,
    SIZE,
    TEXT_TOKENS,
    TEXT_WIDTH,
    Case,
    dpm_scheduler,
    euler_scheduler,
    pooled_embeddings,
    quiet,
    text_embeddings,
)
from tiny_pipelines.flux import flux_arguments, make_flux, make_vae
from tiny_pipelines.qwen import make_qwen, qwen_arguments
from tiny_pipelines.z_image import make_z_image, z_image_arguments


@dataclass(frozen=True)
class ControlCase(Case):
    """A pipeline with ControlNets.

    Attributes:
        control_calls_per_step: of them, taken together.
    """

    control_calls_per_step: int = 1


def picture(seed: int = 5, channels: int = 3) -> torch.Tensor:
    """A picture of noise from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, channels, SIZE, SIZE, generator=generator)


def left_half() -> torch.Tensor:
    """A mask of what is to be painted anew."""
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., : SIZE // 2] = 1
    return mask


def trained(module: Any) -> Any:
    """The module in evaluation, no parameter of which is zero."""
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def _flux_controlnet(num_mode: int | None = None) -> FluxControlNetModel:
    return trained(
        FluxControlNetModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH,
            pooled_projection_dim=POOLED_WIDTH,
            axes_dims_rope=(2, 2, 4),
            num_mode=num_mode,
        )
    )


def make_flux_controlnet(
    pipeline: Any = FluxControlNetPipeline, *, nets: int = 1, num_mode: int | None = None
) -> Any:
    """A FluxControlNetPipeline or a relative of it; with modes, as union ControlNets have them."""
    base = make_flux(vae=make_vae())
    torch.manual_seed(2)
    made = [_flux_controlnet(num_mode) for _ in range(nets)]
    controlnet = made[0] if nets == 1 else FluxMultiControlNetModel(made)
    parts = {name: part for name, part in base.components.items() if "image_encoder" not in name}
    parts.pop("feature_extractor")
    return quiet(pipeline(**parts, controlnet=controlnet))


def flux_control_arguments(batch: int = 1, **more: Any) -> dict[str, Any]:
    """What a FluxControlNetPipeline needs."""
    true_cfg = more.pop("true_cfg", False)
    return {**flux_arguments(batch, true_cfg=true_cfg), "control_image": picture(), **more}


def make_qwen_controlnet(
    pipeline: Any = QwenImageControlNetPipeline, *, multi: bool = False
) -> Any:
    """A QwenImageControlNetPipeline, or the one that paints inside a mask.

    Args:
        pipeline: its class.
        multi: whether one ControlNet is run once per control picture.
    """
    base = make_qwen()
    inpaint = pipeline is QwenImageControlNetInpaintPipeline
    torch.manual_seed(2)
    controlnet = trained(
        QwenImageControlNetModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH,
            axes_dims_rope=(4, 6, 6),
            extra_condition_channels=4 if inpaint else 0,
        )
    )
    vae = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.1] * 4,
        latents_std=[0.5] * 4,
    )
    parts = {**base.components, "vae": vae.eval()}
    chosen = QwenImageMultiControlNetModel([controlnet]) if multi else controlnet
    return quiet(pipeline(**parts, controlnet=chosen))


def qwen_control_arguments(batch: int = 1, **more: Any) -> dict[str, Any]:
    """What a QwenImageControlNetPipeline needs."""
    true_cfg = more.pop("true_cfg", True)
    return {**qwen_arguments(batch, true_cfg=true_cfg), "control_image": picture(), **more}


def make_sd3_controlnet(
    pipeline: Any = StableDiffusion3ControlNetPipeline, *, nets: int = 1
) -> Any:
    """A StableDiffusion3ControlNetPipeline of one block, or the one that paints inside a mask."""
    config: dict[str, Any] = {
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT_WIDTH,
        "caption_projection_dim": 16,
        "pooled_projection_dim": POOLED_WIDTH,
        "out_channels": 4,
        "pos_embed_max_size": 8,
    }
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(**config)
    inpaint = pipeline is StableDiffusion3ControlNetInpaintingPipeline
    extra = {"extra_conditioning_channels": 1} if inpaint else {}
    made = [
        trained(SD3ControlNetModel(**{**config, "num_layers": 1, **extra})) for _ in range(nets)
    ]
    encoders = ("text_encoder", "tokenizer")
    parts = {f"{name}{suffix}": None for name in encoders for suffix in ("", "_2", "_3")}
    pipe = pipeline(
        scheduler=euler_scheduler(),
        vae=make_vae(),
        transformer=transformer.eval(),
        controlnet=made[0] if nets == 1 else SD3MultiControlNetModel(made),
        **parts,
    )
    return quiet(pipe)


def sd3_control_arguments(batch: int = 1, **more: Any) -> dict[str, Any]:
    """What a StableDiffusion3ControlNetPipeline needs."""
    return {
        "prompt_embeds": text_embeddings(batch, 1),
        "pooled_prompt_embeds": pooled_embeddings(batch, 2),
        "negative_prompt_embeds": text_embeddings(batch, 3),
        "negative_pooled_prompt_embeds": pooled_embeddings(batch, 4),
        "control_image": picture(),
        "height": SIZE,
        "width": SIZE,
        **more,
    }


def make_sana_controlnet() -> Any:
    """A SanaControlNetPipeline of one block and a DPM solver."""
    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 8,
        "cross_attention_dim": 16,
        "caption_channels": TEXT_WIDTH,
        "sample_size": 32,
    }
    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(**config, num_layers=2)
    controlnet = SanaControlNetModel(**config, num_layers=1)
    vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * 4,
        decoder_block_types=("ResBlock",) * 4,
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        encoder_layers_per_block=(1,) * 4,
        decoder_layers_per_block=(1,) * 4,
        encoder_qkv_multiscales=((),) * 4,
        decoder_qkv_multiscales=((),) * 4,
        scaling_factor=0.4,
    )
    pipe = SanaControlNetPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae.eval(),
        transformer=transformer.eval(),
        controlnet=trained(controlnet),
        scheduler=dpm_scheduler(),
    )
    return quiet(pipe)


def sana_control_arguments(batch: int = 1) -> dict[str, Any]:
    """What a SanaControlNetPipeline needs."""
    mask = torch.ones(batch, TEXT_TOKENS)
    return {
        "prompt_embeds": text_embeddings(batch, 1),
        "prompt_attention_mask": mask,
        "negative_prompt": None,
        "negative_prompt_embeds": text_embeddings(batch, 3),
        "negative_prompt_attention_mask": mask,
        "control_image": picture(),
        "height": SIZE,
        "width": SIZE,
        "use_resolution_binning": False,
    }


def make_z_image_controlnet(pipeline: Any = ZImageControlNetPipeline) -> Any:
    """A ZImageControlNetPipeline of one block, or the one that paints inside a mask."""
    base = make_z_image()
    torch.manual_seed(2)
    inpaint = pipeline is ZImageControlNetInpaintPipeline
    controlnet = ZImageControlNetModel(
        control_layers_places=[0],
        control_refiner_layers_places=[0],
        control_in_dim=9 if inpaint else 4,
        add_control_noise_refiner="control_noise_refiner" if inpaint else None,
        dim=32,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
    )
    parts = {**base.components, "vae": make_vae()}
    return quiet(pipeline(**parts, controlnet=trained(controlnet)))


def z_image_control_arguments(batch: int = 1, **more: Any) -> dict[str, Any]:
    """What a ZImageControlNetPipeline needs."""
    return {**z_image_arguments(batch), "control_image": picture(), **more}


def _control(
    name: str, make: Any, arguments: Any, calls: int, probe: str, **more: Any
) -> ControlCase:
    options = more.pop("options", {})
    return ControlCase(name, make, arguments, calls, probe, options, **more)


FLUX_INPAINT = {"image": picture(6), "mask_image": left_half(), "strength": 0.9}
QWEN_INPAINT = {"control_mask": left_half()}

CONTROLNETS = (
    _control("flux", make_flux_controlnet, flux_control_arguments, 1, "x_embedder"),
    _control(
        "flux-guided",
        make_flux_controlnet,
        flux_control_arguments,
        2,
        "x_embedder",
        options={"true_cfg": True},
    ),
    _control(
        "flux-union",
        lambda: make_flux_controlnet(num_mode=3),
        flux_control_arguments,
        1,
        "x_embedder",
        options={"control_mode": 2},
    ),
    _control(
        "flux-multi",
        lambda: make_flux_controlnet(nets=2),
        flux_control_arguments,
        1,
        "x_embedder",
        options={
            "control_image": [picture(5), picture(6)],
            "controlnet_conditioning_scale": [0.7, 0.4],
        },
        control_calls_per_step=2,
    ),
    _control(
        "flux-image-to-image",
        lambda: make_flux_controlnet(FluxControlNetImg2ImgPipeline),
        flux_control_arguments,
        1,
        "x_embedder",
        options={"image": picture(6), "strength": 0.9},
    ),
    _control(
        "flux-inpainting",
        lambda: make_flux_controlnet(FluxControlNetInpaintPipeline),
        flux_control_arguments,
        1,
        "x_embedder",
        options=FLUX_INPAINT,
    ),
    _control("qwen-image", make_qwen_controlnet, qwen_control_arguments, 2, "img_in"),
    _control(
        "qwen-image-union",
        lambda: make_qwen_controlnet(multi=True),
        qwen_control_arguments,
        2,
        "img_in",
        options={
            "control_image": [picture(5), picture(6)],
            "controlnet_conditioning_scale": [0.7, 0.4],
        },
        control_calls_per_step=2,
    ),
    _control(
        "qwen-image-inpainting",
        lambda: make_qwen_controlnet(QwenImageControlNetInpaintPipeline),
        qwen_control_arguments,
        2,
        "img_in",
        options=QWEN_INPAINT,
    ),
    _control("sd3", make_sd3_controlnet, sd3_control_arguments, 1, "pos_embed"),
    _control(
        "sd3-multi",
        lambda: make_sd3_controlnet(nets=2),
        sd3_control_arguments,
        1,
        "pos_embed",
        options={
            "control_image": [picture(5), picture(6)],
            "controlnet_conditioning_scale": [0.7, 0.4],
        },
        control_calls_per_step=2,
    ),
    _control(
        "sd3-inpainting",
        lambda: make_sd3_controlnet(StableDiffusion3ControlNetInpaintingPipeline),
        sd3_control_arguments,
        1,
        "pos_embed",
        options={"control_mask": left_half()},
    ),
    _control("sana", make_sana_controlnet, sana_control_arguments, 1, "patch_embed"),
    _control(
        "z-image",
        make_z_image_controlnet,
        z_image_control_arguments,
        1,
        "all_x_embedder.2-1",
    ),
    _control(
        "z-image-inpainting",
        lambda: make_z_image_controlnet(ZImageControlNetInpaintPipeline),
        z_image_control_arguments,
        1,
        "all_x_embedder.2-1",
        options={"image": picture(6), "mask_image": left_half()},
    ),
)
"""Every flow-matching pipeline of diffusers that has ControlNets, but Cosmos 2.5's."""
