"""The published configurations, written out, and toys of the same kinds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """How large a model and its calls are.

    Attributes:
        text: the size of what a call makes, in words.
        transformer: configuration.
        vae: configuration.
        height: pixels.
        width: pixels.
        text_tokens: length of the prompt.
        text_width: of a token's embedding.
        negative_tokens: length of the negative prompt, where there is one.
        pooled_width: of the pooled embedding, where there is one.
        frames: of a video.
    """

    text: str
    transformer: dict[str, Any]
    vae: dict[str, Any]
    height: int
    width: int
    text_tokens: int
    text_width: int
    negative_tokens: int = 0
    pooled_width: int = 0
    frames: int = 1


FLUX_SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
QWEN_SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "base_image_seq_len": 256,
    "max_image_seq_len": 8192,
    "shift_terminal": 0.02,
    "time_shift_type": "exponential",
}
HUNYUAN_SCHEDULER: dict[str, Any] = {"num_train_timesteps": 1000, "shift": 7.0}

FLUX = Sizes(
    "1024 x 1024 pixels, 4096 + 512 tokens, 12 B parameters",
    transformer={
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 19,
        "num_single_layers": 38,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": True,
        "axes_dims_rope": (16, 56, 56),
    },
    vae={
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 16,
        "norm_num_groups": 32,
        "sample_size": 1024,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
    height=1024,
    width=1024,
    text_tokens=512,
    text_width=4096,
    pooled_width=768,
)
QWEN = Sizes(
    "1664 x 928 pixels, 6032 + 128 and 6032 + 6 tokens, 20 B parameters",
    transformer={
        "patch_size": 2,
        "in_channels": 64,
        "out_channels": 16,
        "num_layers": 60,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 3584,
        "guidance_embeds": False,
        "axes_dims_rope": (16, 56, 56),
    },
    vae={"base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2},
    height=928,
    width=1664,
    text_tokens=128,
    text_width=3584,
    negative_tokens=6,
)
HUNYUAN = Sizes(
    "33 frames of 832 x 480 pixels, 14040 + 256 tokens, 13 B parameters",
    transformer={
        "in_channels": 16,
        "out_channels": 16,
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "num_layers": 20,
        "num_single_layers": 40,
        "num_refiner_layers": 2,
        "mlp_ratio": 4.0,
        "patch_size": 2,
        "patch_size_t": 1,
        "qk_norm": "rms_norm",
        "guidance_embeds": True,
        "text_embed_dim": 4096,
        "pooled_projection_dim": 768,
        "rope_theta": 256.0,
        "rope_axes_dim": (16, 56, 56),
    },
    vae={
        "latent_channels": 16,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "scaling_factor": 0.476986,
        "spatial_compression_ratio": 8,
        "temporal_compression_ratio": 4,
        "mid_block_add_attention": True,
    },
    height=480,
    width=832,
    text_tokens=256,
    text_width=4096,
    pooled_width=768,
    frames=33,
)
HUNYUAN_720P = replace(
    HUNYUAN,
    text="33 frames of 1280 x 720 pixels, 32400 + 256 tokens, 13 B parameters",
    height=720,
    width=1280,
)

FLUX_TOY = Sizes(
    "toy",
    transformer={
        "patch_size": 1,
        "in_channels": 16,
        "num_layers": 4,
        "num_single_layers": 5,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "pooled_projection_dim": 8,
        "guidance_embeds": True,
        "axes_dims_rope": (4, 6, 6),
    },
    vae={
        **FLUX.vae,
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 64,
    },
    height=64,
    width=64,
    text_tokens=5,
    text_width=16,
    pooled_width=8,
)
QWEN_TOY = Sizes(
    "toy",
    transformer={
        **QWEN.transformer,
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "axes_dims_rope": (4, 6, 6),
    },
    vae={
        "base_dim": 8,
        "z_dim": 4,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "latents_mean": [0.0] * 4,
        "latents_std": [1.0] * 4,
    },
    height=32,
    width=64,
    text_tokens=5,
    text_width=16,
    negative_tokens=3,
)
HUNYUAN_TOY = Sizes(
    "toy",
    transformer={
        **HUNYUAN.transformer,
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "num_refiner_layers": 1,
        "text_embed_dim": 16,
        "pooled_projection_dim": 8,
        "rope_axes_dim": (4, 6, 6),
    },
    vae={
        **HUNYUAN.vae,
        "latent_channels": 4,
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    height=32,
    width=32,
    text_tokens=6,
    text_width=16,
    pooled_width=8,
    frames=5,
)
