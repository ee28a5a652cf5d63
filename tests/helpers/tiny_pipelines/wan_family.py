"""Rows of Wan's family: Wan, SkyReels-V2, ChronoEdit, AnyFlow, Helios, Lucy."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FlowMapEulerDiscreteScheduler, HeliosScheduler
from PIL import Image

from tiny_pipelines.building import Row, answering, assemble, model, picture, prompts, wan_vae
from tiny_pipelines.common import TEXT_WIDTH, unipc_scheduler
from tiny_pipelines.wan import WAN_TRANSFORMER

SIDE = 32
FRAMES = 5
VIDEO = {"height": SIDE, "width": SIDE, "num_frames": FRAMES, "guidance_scale": 4.0}
PICTURE_CHANNELS = 12
"""Latents, and beside them a mask of 4 channels and a picture's latents."""


def _made(pipeline: str, architecture: str, scheduler: Any, **config: Any) -> Any:
    transformer = model(architecture, **{**WAN_TRANSFORMER, **config})
    pipe = assemble(pipeline, transformer=transformer, scheduler=scheduler, vae=wan_vae())
    if transformer.config.get("image_dim") is not None:
        seen_by_clip = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(7))
        answering(pipe, "encode_image", seen_by_clip)
    return pipe


def _wan(pipeline: str, **config: Any) -> Any:
    return _made(pipeline, "WanTransformer3DModel", unipc_scheduler(), **config)


def _wan_22(pipeline: str, **config: Any) -> Any:
    one, other = (model("WanTransformer3DModel", **{**WAN_TRANSFORMER, **config}) for _ in range(2))
    return assemble(
        pipeline,
        transformer=one,
        transformer_2=other,
        boundary_ratio=0.9,
        scheduler=unipc_scheduler(),
        vae=wan_vae(),
    )


def _vace() -> Any:
    return _made(
        "WanVACEPipeline",
        "WanVACETransformer3DModel",
        unipc_scheduler(),
        vace_layers=[0, 1],
        vace_in_channels=72,
    )


def _animate() -> Any:
    return _made(
        "WanAnimatePipeline",
        "WanAnimateTransformer3DModel",
        unipc_scheduler(),
        in_channels=PICTURE_CHANNELS,
        latent_channels=4,
        image_dim=4,
        motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )


def _skyreels(pipeline: str, **config: Any) -> Any:
    return _made(
        pipeline, "SkyReelsV2Transformer3DModel", unipc_scheduler(flow_shift=8.0), **config
    )


def _chronoedit() -> Any:
    return _made(
        "ChronoEditPipeline",
        "ChronoEditTransformer3DModel",
        unipc_scheduler(),
        in_channels=PICTURE_CHANNELS,
        image_dim=4,
    )


def _anyflow(pipeline: str, architecture: str, **config: Any) -> Any:
    scheduler = FlowMapEulerDiscreteScheduler(shift=5.0)
    config = {"gate_value": 0.25, "deltatime_type": "r", **config}
    return assemble(
        pipeline,
        transformer=model(
            architecture,
            **{name: value for name, value in WAN_TRANSFORMER.items() if name != "qk_norm"},
            **config,
        ),
        scheduler=scheduler,
        vae=wan_vae(),
    )


def _helios() -> Any:
    config = {name: value for name, value in WAN_TRANSFORMER.items() if name != "rope_max_seq_len"}
    transformer = model(
        "HeliosTransformer3DModel",
        **config,
        rope_dim=(4, 4, 4),
        has_multi_term_memory_patch=True,
        guidance_cross_attn=True,
        zero_history_timestep=True,
        is_amplify_history=False,
    )
    scheduler = HeliosScheduler(stages=1, stage_range=[0, 1], use_dynamic_shifting=True)
    return assemble("HeliosPipeline", transformer=transformer, scheduler=scheduler, vae=wan_vae())


def _arguments(**others: Any) -> dict[str, Any]:
    return {**VIDEO, **prompts(TEXT_WIDTH), **others}


def _unguided() -> dict[str, Any]:
    return {**VIDEO, **prompts(TEXT_WIDTH, guided=False), "guidance_scale": 1.0}


def _of_a_picture(**others: Any) -> dict[str, Any]:
    return _arguments(image=picture(SIDE), **others)


def _clip(frames: int = FRAMES, *, seed: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, frames, 3, SIDE, SIDE, generator=generator)


def _drawn() -> list[Image.Image]:
    return [Image.linear_gradient("L").convert("RGB").resize((SIDE, SIDE))] * FRAMES


def _of_a_video(**others: Any) -> dict[str, Any]:
    given = _arguments(video=_clip(), **others)
    del given["num_frames"]
    return given


ROWS = (
    Row("WanPipeline", lambda: _wan("WanPipeline"), _arguments),
    Row("WanPipeline (2.2)", lambda: _wan_22("WanPipeline"), _arguments),
    Row(
        "WanImageToVideoPipeline",
        lambda: _wan("WanImageToVideoPipeline", in_channels=PICTURE_CHANNELS, image_dim=4),
        _of_a_picture,
    ),
    Row(
        "WanImageToVideoPipeline (2.2)",
        lambda: _wan_22("WanImageToVideoPipeline", in_channels=PICTURE_CHANNELS),
        _of_a_picture,
    ),
    Row(
        "WanVideoToVideoPipeline",
        lambda: _wan("WanVideoToVideoPipeline"),
        lambda: _of_a_video(strength=1.0),
    ),
    Row("WanVACEPipeline", _vace, lambda: _arguments(video=None, mask=None)),
    Row(
        "WanAnimatePipeline",
        _animate,
        lambda: {
            "height": SIDE,
            "width": SIDE,
            **prompts(TEXT_WIDTH, guided=False),
            "image": picture(SIDE),
            "pose_video": _drawn(),
            "face_video": _drawn(),
            "segment_frame_length": FRAMES,
            "guidance_scale": 1.0,
        },
    ),
    Row(
        "LucyEditPipeline",
        lambda: _wan_22("LucyEditPipeline", in_channels=8),
        lambda: _arguments(video=_clip()),
    ),
    Row("SkyReelsV2Pipeline", lambda: _skyreels("SkyReelsV2Pipeline"), _arguments),
    Row(
        "SkyReelsV2ImageToVideoPipeline",
        lambda: _skyreels(
            "SkyReelsV2ImageToVideoPipeline", in_channels=PICTURE_CHANNELS, image_dim=4
        ),
        _of_a_picture,
    ),
    Row(
        "SkyReelsV2DiffusionForcingPipeline",
        lambda: _skyreels("SkyReelsV2DiffusionForcingPipeline"),
        lambda: _arguments(prompt=None),
    ),
    Row(
        "SkyReelsV2DiffusionForcingImageToVideoPipeline",
        lambda: _skyreels("SkyReelsV2DiffusionForcingImageToVideoPipeline"),
        lambda: _of_a_picture(),
    ),
    Row(
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
        lambda: _skyreels("SkyReelsV2DiffusionForcingVideoToVideoPipeline"),
        lambda: _arguments(video=_clip(), num_frames=9, base_num_frames=5, overlap_history=1),
    ),
    Row(
        "ChronoEditPipeline",
        _chronoedit,
        _of_a_picture,
    ),
    Row(
        "AnyFlowPipeline",
        lambda: _anyflow("AnyFlowPipeline", "AnyFlowTransformer3DModel"),
        _unguided,
    ),
    Row(
        "AnyFlowFARPipeline",
        lambda: _anyflow(
            "AnyFlowFARPipeline",
            "AnyFlowFARTransformer3DModel",
            compressed_patch_size=(1, 4, 4),
            full_chunk_limit=2,
            chunk_partition=(2,),  # in one run
        ),
        _unguided,
    ),
    Row("HeliosPipeline", _helios, lambda: _arguments(num_frames=9)),
)
