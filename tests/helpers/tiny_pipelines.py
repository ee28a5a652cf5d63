"""Tiny pipelines with random weights, built from configs: real code paths, milliseconds per step.

Nothing is loaded and nothing downloaded: prompts are random embeddings, there are no text encoders,
and latents are returned as they are. The same seed gives the same weights, so a second pipeline of
the same maker is an untouched twin of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxImg2ImgPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)

STEPS = 50
SIZE = 64
"""Pixels: 8 × 8 latents, 4 × 4 tokens."""
TEXT_TOKENS = 5
TEXT_WIDTH = 16
POOLED_WIDTH = 8


def euler_scheduler(**config: Any) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler of FLUX, Qwen-Image and Z-Image; shifted by 3 unless configured otherwise."""
    return FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **config})


def make_flux(
    *,
    guidance_embeds: bool = False,
    num_layers: int = 1,
    num_single_layers: int = 1,
    scheduler: Any = None,
    dtype: torch.dtype = torch.float32,
    pipeline: type[DiffusionPipeline] = FluxPipeline,
    vae: AutoencoderKL | None = None,
) -> Any:
    """A FluxPipeline, or another one of its parts, of 2 heads of 8 dimensions."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=num_layers,
        num_single_layers=num_single_layers,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(2, 2, 4),
    )
    if dtype != torch.float32:
        transformer = transformer.to(dtype)
    pipe = pipeline(
        scheduler=scheduler or euler_scheduler(),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer.eval(),
    )
    return quiet(pipe)


def make_flux_img2img() -> Any:
    """A FluxImg2ImgPipeline with a one-block VAE."""
    torch.manual_seed(1)
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=SIZE,
        shift_factor=0.1,
        scaling_factor=0.5,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return make_flux(pipeline=FluxImg2ImgPipeline, vae=vae.eval())


def make_qwen() -> Any:
    """A QwenImagePipeline of one block; guidance is two calls and a renormalisation."""
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    pipe = QwenImagePipeline(
        scheduler=euler_scheduler(use_dynamic_shifting=True, shift_terminal=0.02),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer.eval(),
    )
    return quiet(pipe)


def make_z_image() -> Any:
    """A ZImagePipeline of one block; guidance is one doubled batch, the output is negated."""
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=TEXT_WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[64, 16, 16],
    )
    # Created empty, filled from a checkpoint as a rule.
    for name, parameter in transformer.named_parameters():
        if name.endswith("pad_token"):
            torch.nn.init.normal_(parameter)
    pipe = ZImagePipeline(
        scheduler=euler_scheduler(),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer.eval(),
    )
    return quiet(pipe)


def unipc_scheduler(**config: Any) -> UniPCMultistepScheduler:
    """The scheduler of Wan, SkyReels and Cosmos."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return UniPCMultistepScheduler(**{**flow, **config})


def dpm_scheduler(**config: Any) -> DPMSolverMultistepScheduler:
    """The scheduler of Sana."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return DPMSolverMultistepScheduler(**{**flow, **config})


def make_wan(*, scheduler: Any = None) -> Any:
    """A Wan 2.2 pipeline of two one-block transformers, the second one below noise level 0.9."""
    torch.manual_seed(0)
    transformers = [
        WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=TEXT_WIDTH,
            freq_dim=16,
            ffn_dim=32,
            num_layers=1,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=32,
        ).eval()
        for _ in range(2)
    ]
    pipe = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        scheduler=scheduler or euler_scheduler(),
        transformer=transformers[0],
        transformer_2=transformers[1],
        boundary_ratio=0.9,
    )
    return quiet(pipe)


def quiet(pipe: Any) -> Any:
    """The pipeline without its progress bar."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _text(batch: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, TEXT_TOKENS, TEXT_WIDTH, generator=generator).to(dtype)


def _pooled(batch: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, POOLED_WIDTH, generator=generator).to(dtype)


def flux_arguments(
    batch: int = 1, *, true_cfg: bool = False, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """What a FluxPipeline needs besides steps and noise; with true guidance a second prompt."""
    arguments: dict[str, Any] = {
        "prompt_embeds": _text(batch, 1, dtype),
        "pooled_prompt_embeds": _pooled(batch, 2, dtype),
        "height": SIZE,
        "width": SIZE,
    }
    if true_cfg:
        arguments["negative_prompt_embeds"] = _text(batch, 3, dtype)
        arguments["negative_pooled_prompt_embeds"] = _pooled(batch, 4, dtype)
        arguments["true_cfg_scale"] = 3.0
    return arguments


def qwen_arguments(batch: int = 1, *, true_cfg: bool = True) -> dict[str, Any]:
    """What a QwenImagePipeline needs besides steps and noise."""
    mask = torch.ones(batch, TEXT_TOKENS, dtype=torch.long)
    arguments: dict[str, Any] = {
        "prompt_embeds": _text(batch, 1, torch.float32),
        "prompt_embeds_mask": mask,
        "height": SIZE,
        "width": SIZE,
    }
    if true_cfg:
        arguments["negative_prompt_embeds"] = _text(batch, 3, torch.float32)
        arguments["negative_prompt_embeds_mask"] = mask
        arguments["true_cfg_scale"] = 4.0
    return arguments


def z_image_arguments(batch: int = 1) -> dict[str, Any]:
    """What a ZImagePipeline needs besides steps and noise."""
    return {
        "prompt_embeds": list(_text(batch, 1, torch.float32)),
        "negative_prompt_embeds": list(_text(batch, 3, torch.float32)),
        "guidance_scale": 4.0,
        "height": SIZE,
        "width": SIZE,
    }


def wan_arguments(batch: int = 1) -> dict[str, Any]:
    """What a WanPipeline needs besides steps and noise: five frames."""
    return {
        "prompt_embeds": _text(batch, 1, torch.float32),
        "negative_prompt_embeds": _text(batch, 3, torch.float32),
        "guidance_scale": 4.0,
        "height": SIZE,
        "width": SIZE,
        "num_frames": 5,
    }


@dataclass(frozen=True)
class Case:
    """A kind of pipeline to test on.

    Attributes:
        name: shown as the test's id.
        make: builds the pipeline.
        arguments: builds its call arguments for a batch size.
        calls_per_step: of the transformer.
        probe: a submodule that every forward of the transformer runs exactly once.
    """

    name: str
    make: Callable[[], Any]
    arguments: Callable[..., dict[str, Any]]
    calls_per_step: int
    probe: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def run(self, pipe: Any, **overrides: Any) -> torch.Tensor:
        """One call of the pipeline, by default of 50 steps from seed 0; gives the latents."""
        batch = overrides.pop("batch", 1)
        seed = overrides.pop("seed", 0)
        arguments = {
            "num_inference_steps": STEPS,
            "generator": torch.Generator().manual_seed(seed),
            "output_type": "latent",
            **self.arguments(batch, **self.options),
            **overrides,
        }
        output = pipe(**arguments)
        return output.frames if hasattr(output, "frames") else output.images


FLUX = Case("flux", make_flux, flux_arguments, 1, "x_embedder")
FLUX_DISTILLED = Case(
    "flux-distilled", lambda: make_flux(guidance_embeds=True), flux_arguments, 1, "x_embedder"
)
FLUX_GUIDED = Case("flux-guided", make_flux, flux_arguments, 2, "x_embedder", {"true_cfg": True})
QWEN = Case("qwen-image", make_qwen, qwen_arguments, 2, "img_in")
Z_IMAGE = Case("z-image", make_z_image, z_image_arguments, 1, "all_x_embedder.2-1")
WAN = Case("wan-2.2", make_wan, wan_arguments, 2, "patch_embedding")
CASES = (FLUX, FLUX_DISTILLED, FLUX_GUIDED, QWEN, Z_IMAGE)


@contextmanager
def count_forwards(module: torch.nn.Module) -> Iterator[list[int]]:
    """Count the real forward passes of a module; the count is the length of the list."""
    calls: list[int] = []
    handle = module.register_forward_pre_hook(lambda *_: calls.append(len(calls)))
    try:
        yield calls
    finally:
        handle.remove()
