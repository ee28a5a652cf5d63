"""Rows of Cosmos 1, 2 and 2.5."""

from __future__ import annotations

from typing import Any

from diffusers import EDMEulerScheduler

from tiny_pipelines.building import Row, assemble, model, picture, prompts, wan_vae
from tiny_pipelines.common import TEXT_WIDTH, euler_scheduler, unipc_scheduler

SIDE = 32
PIXELS = {"height": SIDE, "width": SIDE}
VIDEO = {**PIXELS, "num_frames": 9}
COSMOS = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "mlp_ratio": 2,
    "text_embed_dim": TEXT_WIDTH,
    "adaln_lora_dim": 4,
    "max_size": (4, 32, 32),
    "patch_size": (1, 2, 2),
    "rope_scale": (2.0, 1.0, 1.0),
    "concat_padding_mask": True,
    "extra_pos_embed_type": "learnable",
}


def _cosmos(pipeline: str, scheduler: Any, *, vae: Any = None, **config: Any) -> Any:
    transformer = model("CosmosTransformer3DModel", **{**COSMOS, **config})
    pipe = assemble(
        pipeline, transformer=transformer, scheduler=scheduler, vae=vae, safety_checker=Lax()
    )
    return pipe


def _cosmos_vae() -> Any:
    return model(
        "AutoencoderKLCosmos",
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=2,
        patch_size=4,
        patch_type="haar",
        spatial_compression_ratio=8,
        temporal_compression_ratio=8,
    )


class Lax:
    """A safety checker without a model."""

    def to(self, device: Any) -> Lax:
        """Stay."""
        return self

    def check_text_safety(self, prompt: str) -> bool:
        """Let everything pass."""
        return True

    def check_video_safety(self, video: Any) -> Any:
        """Let everything pass."""
        return video


def _edm() -> EDMEulerScheduler:
    return EDMEulerScheduler(
        sigma_min=0.002,
        sigma_max=80,
        sigma_data=0.5,
        sigma_schedule="karras",
        prediction_type="epsilon",
        rho=7.0,
        final_sigmas_type="sigma_min",
    )


def _karras() -> Any:
    return euler_scheduler(use_karras_sigmas=True, shift=1.0)


ROWS = (
    Row(
        "CosmosTextToWorldPipeline",
        lambda: _cosmos("CosmosTextToWorldPipeline", _edm()),
        lambda: {**VIDEO, **prompts(TEXT_WIDTH)},
    ),
    Row(
        "CosmosVideoToWorldPipeline",
        lambda: _cosmos("CosmosVideoToWorldPipeline", _edm(), vae=_cosmos_vae(), in_channels=5),
        lambda: {**VIDEO, **prompts(TEXT_WIDTH), "image": picture(SIDE)},
    ),
    Row(
        "Cosmos2TextToImagePipeline",
        lambda: _cosmos("Cosmos2TextToImagePipeline", _karras(), vae=wan_vae()),
        lambda: {**PIXELS, **prompts(TEXT_WIDTH)},
    ),
    Row(
        "Cosmos2VideoToWorldPipeline",
        lambda: _cosmos("Cosmos2VideoToWorldPipeline", _karras(), vae=wan_vae(), in_channels=5),
        lambda: {**VIDEO, **prompts(TEXT_WIDTH), "image": picture(SIDE)},
    ),
    Row(
        "Cosmos2_5_PredictBasePipeline",
        lambda: _cosmos(
            "Cosmos2_5_PredictBasePipeline", unipc_scheduler(), vae=wan_vae(), in_channels=5
        ),
        lambda: {**VIDEO, **prompts(TEXT_WIDTH)},
    ),
)
