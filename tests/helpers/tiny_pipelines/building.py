"""Putting a tiny pipeline together from the parts that matter, and what its call is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, AutoencoderKLHunyuanVideo, AutoencoderKLWan, DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor

from tiny_pipelines.common import quiet


@dataclass(frozen=True)
class Row:
    """A pipeline of the coverage matrix.

    Attributes:
        pipeline: the name of its class in diffusers.
        make: builds it, with the scheduler that it usually has.
        arguments: builds what its call needs besides steps and noise.
        quick: whether it is tried in every run of the tests.
    """

    pipeline: str
    make: Callable[[], Any]
    arguments: Callable[[], dict[str, Any]]
    quick: bool = False

    def __str__(self) -> str:
        return self.pipeline


def assemble(pipeline: str, **parts: Any) -> Any:
    """A pipeline of these parts; those that are not given, text encoders as a rule, are None."""
    cls: type[DiffusionPipeline] = getattr(diffusers, pipeline.partition(" ")[0])
    absent = {
        name: None
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if name != "self" and parameter.default is parameter.empty
    }
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return quiet(cls(**{**absent, **parts}))


def model(name: str, **config: Any) -> Any:
    """A model of diffusers with seeded random weights; parameters created empty are filled."""
    torch.manual_seed(0)
    made = getattr(diffusers, name)(**config)
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters():
        # Zero-initialised layers would make every output the same, whatever the input.
        if not bool(torch.isfinite(parameter).all()) or not bool(parameter.any()):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return made.eval()


def answering(pipe: Any, method: str, answer: Any) -> Any:
    """The pipeline with an answer in the place of a method that would take an encoder."""
    setattr(pipe, method, lambda *_, **__: answer)
    return pipe


def text(width: int, *, tokens: int = 5, seed: int = 1) -> torch.Tensor:
    """Embeddings of a prompt."""
    return torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(seed))


def pooled(width: int, *, seed: int = 2) -> torch.Tensor:
    """One embedding of a whole prompt."""
    return torch.randn(1, width, generator=torch.Generator().manual_seed(seed))


def mask(tokens: int = 5) -> torch.Tensor:
    """The mask of a prompt without padding."""
    return torch.ones(1, tokens, dtype=torch.long)


def prompts(width: int, *, masked: str | None = None, guided: bool = True) -> dict[str, Any]:
    """A prompt and, where there is guidance, a negative one.

    Args:
        width: of the embeddings.
        masked: the ending of the masks' names, None where there are no masks.
        guided: whether there is a negative prompt.
    """
    given: dict[str, Any] = {"prompt_embeds": text(width)}
    if guided:
        given["negative_prompt_embeds"] = text(width, seed=3)
    if masked is not None:
        for name in list(given):
            given[name.removesuffix("_embeds") + masked] = mask()
    return given


def picture(size: int, *, seed: int = 5) -> torch.Tensor:
    """A picture in [0, 1]."""
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def pil_picture(size: int) -> Any:
    """The same as PIL has it, for pipelines that ask a picture for its size."""
    return VaeImageProcessor.numpy_to_pil(picture(size).permute(0, 2, 3, 1).numpy())[0]


def inpainting_mask(size: int) -> torch.Tensor:
    """A mask whose left half is to be painted."""
    drawn = torch.zeros(1, 1, size, size)
    drawn[..., : size // 2] = 1
    return drawn


def image_vae(*, channels: int = 4, levels: int = 4, **config: Any) -> AutoencoderKL:
    """A VAE of one layer per level."""
    torch.manual_seed(1)
    usual = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": (4,) * levels,
        "layers_per_block": 1,
        "latent_channels": channels,
        "norm_num_groups": 2,
        "sample_size": 32,
        "shift_factor": 0.1,
        "scaling_factor": 0.5,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    return AutoencoderKL(**{**usual, **config}).eval()


def wan_vae(channels: int = 4) -> AutoencoderKLWan:
    """Wan's causal video VAE, 8 times smaller in space and 4 times in time."""
    torch.manual_seed(1)
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=channels,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * channels,
        latents_std=[1.0] * channels,
    ).eval()


def hunyuan_vae(channels: int = 4) -> AutoencoderKLHunyuanVideo:
    """HunyuanVideo's causal video VAE."""
    torch.manual_seed(1)
    return AutoencoderKLHunyuanVideo(
        latent_channels=channels,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
    ).eval()
