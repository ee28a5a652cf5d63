"""The models: real architectures with random weights, in full size and as toys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)

from . import configs

DTYPE = torch.bfloat16
WITHOUT_TEXT = {"text_encoder": None, "tokenizer": None}
WITHOUT_TEXTS = {**WITHOUT_TEXT, "text_encoder_2": None, "tokenizer_2": None}


@dataclass(frozen=True)
class Model:
    """A model to be measured.

    Attributes:
        name: in rows.
        build: gives the pipeline on a device.
        arguments: gives the arguments of a call on a device, besides steps and noise.
        size: what a call makes, in words.
        calls_per_step: of the transformer.
        probe: a submodule that every real forward of the transformer runs exactly once.
    """

    name: str
    build: Callable[[torch.device], Any]
    arguments: Callable[[torch.device], dict[str, Any]]
    size: str
    calls_per_step: int
    probe: str

    def about(self, what: str, **config: Any) -> dict[str, Any]:
        """Return what every row of this model says of itself."""
        return {"model": self.name, "what": what, "size": self.size, "config": config}


def build_module(
    device: torch.device, make: Callable[..., torch.nn.Module], config: dict[str, Any]
) -> torch.nn.Module:
    """Build a module in bf16 where it is to run, with the weights that its layers begin with.

    Those are uniform within one over the root of a layer's inputs, so what goes through it gets
    smaller rather than larger, and norms, biases and tables of frequencies are as they should be.
    Nothing is built elsewhere and moved, which takes minutes at this size.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPE)
    try:
        with torch.device(device):
            module = make(**config)
    finally:
        torch.set_default_dtype(before)
    return module.eval().requires_grad_(False)


def normal(device: torch.device, *shape: int) -> torch.Tensor:
    """Return random embeddings, always the same for a shape."""
    generator = torch.Generator(device).manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, device=device).to(DTYPE)


def flux(toy: bool) -> Model:
    """FLUX.1-dev: guidance is embedded, one transformer call per step."""
    sizes = configs.FLUX_TOY if toy else configs.FLUX

    def build(device: torch.device) -> Any:
        torch.manual_seed(0)
        return FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(**configs.FLUX_SCHEDULER),
            transformer=build_module(device, FluxTransformer2DModel, sizes.transformer),
            vae=build_module(device, AutoencoderKL, sizes.vae),
            **WITHOUT_TEXTS,
        )

    def arguments(device: torch.device) -> dict[str, Any]:
        return {
            "prompt_embeds": normal(device, 1, sizes.text_tokens, sizes.text_width),
            "pooled_prompt_embeds": normal(device, 1, sizes.pooled_width),
            "guidance_scale": 3.5,
            "height": sizes.height,
            "width": sizes.width,
        }

    return Model("flux", build, arguments, sizes.text, 1, "x_embedder")


def qwen(toy: bool) -> Model:
    """Qwen-Image: guidance is two transformer calls per step."""
    sizes = configs.QWEN_TOY if toy else configs.QWEN

    def build(device: torch.device) -> Any:
        torch.manual_seed(0)
        return QwenImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(**configs.QWEN_SCHEDULER),
            transformer=build_module(device, QwenImageTransformer2DModel, sizes.transformer),
            vae=build_module(device, AutoencoderKLQwenImage, sizes.vae),
            **WITHOUT_TEXT,
        )

    def arguments(device: torch.device) -> dict[str, Any]:
        negative = sizes.negative_tokens
        return {
            "prompt_embeds": normal(device, 1, sizes.text_tokens, sizes.text_width),
            "prompt_embeds_mask": _mask(device, sizes.text_tokens),
            "negative_prompt_embeds": normal(device, 1, negative, sizes.text_width),
            "negative_prompt_embeds_mask": _mask(device, negative),
            "true_cfg_scale": 4.0,
            "height": sizes.height,
            "width": sizes.width,
        }

    return Model("qwen", build, arguments, sizes.text, 2, "img_in")


def hunyuan(toy: bool) -> Model:
    """HunyuanVideo at 480p."""
    return _hunyuan("hunyuan", configs.HUNYUAN_TOY if toy else configs.HUNYUAN)


def hunyuan_720p(toy: bool) -> Model:
    """HunyuanVideo at 720p."""
    return _hunyuan("hunyuan-720p", configs.HUNYUAN_TOY if toy else configs.HUNYUAN_720P)


def _hunyuan(name: str, sizes: configs.Sizes) -> Model:
    """Guidance is embedded, the prompt padded to a fixed length."""

    def build(device: torch.device) -> Any:
        torch.manual_seed(0)
        pipe = HunyuanVideoPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(**configs.HUNYUAN_SCHEDULER),
            transformer=build_module(device, HunyuanVideoTransformer3DModel, sizes.transformer),
            vae=build_module(device, AutoencoderKLHunyuanVideo, sizes.vae),
            **WITHOUT_TEXTS,
        )
        pipe.vae.enable_tiling()
        return pipe

    def arguments(device: torch.device) -> dict[str, Any]:
        mask = _mask(device, sizes.text_tokens)
        mask[:, sizes.text_tokens // 3 :] = 0
        return {
            "prompt_embeds": normal(device, 1, sizes.text_tokens, sizes.text_width),
            "prompt_attention_mask": mask,
            "pooled_prompt_embeds": normal(device, 1, sizes.pooled_width),
            "guidance_scale": 6.0,
            "height": sizes.height,
            "width": sizes.width,
            "num_frames": sizes.frames,
        }

    return Model(name, build, arguments, sizes.text, 1, "x_embedder")


def _mask(device: torch.device, tokens: int) -> torch.Tensor:
    return torch.ones(1, tokens, dtype=torch.long, device=device)
