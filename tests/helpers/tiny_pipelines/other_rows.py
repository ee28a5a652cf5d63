"""Rows of pipelines that other tests are about too, and of audio."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from diffusers import ZImageControlNetInpaintPipeline

from tiny_pipelines.building import Row, answering, assemble, inpainting_mask, model, picture, text
from tiny_pipelines.common import (
    SIZE,
    TEXT_WIDTH,
    euler_scheduler,
    pooled_embeddings,
    text_embeddings,
)
from tiny_pipelines.controlnets import make_z_image_controlnet, z_image_control_arguments
from tiny_pipelines.ideogram import Ideogram4WithoutText, ideogram_arguments, make_ideogram
from tiny_pipelines.visual_cloze import make_visual_cloze, visual_cloze_arguments


def _ideogram() -> Any:
    pipe = assemble("Ideogram4Pipeline", **make_ideogram().components)
    pipe.encode_prompt = MethodType(Ideogram4WithoutText.encode_prompt, pipe)
    return pipe


def _longcat_audio() -> Any:
    transformer = model(
        "LongCatAudioDiTTransformer",
        dit_dim=16,
        dit_depth=2,
        dit_heads=2,
        dit_text_dim=TEXT_WIDTH,
        latent_dim=8,
        text_conv=False,
    )
    vae = model(
        "LongCatAudioDiTVae",
        channels=8,
        c_mults=[1, 2],
        strides=[2],
        latent_dim=8,
        encoder_latent_dim=16,
        downsampling_ratio=2,
    )
    pipe = assemble(
        "LongCatAudioDiTPipeline",
        transformer=transformer,
        scheduler=euler_scheduler(shift=1.0, invert_sigmas=True),
        vae=vae,
    )
    return answering(pipe, "encode_prompt", (text(TEXT_WIDTH), torch.tensor([5])))


def _visual_cloze() -> Any:
    encoded = text_embeddings(1, 1), pooled_embeddings(1, 2), torch.zeros(5, 3)
    return answering(make_visual_cloze().generation_pipe, "encode_prompt", encoded)


def _visual_cloze_arguments() -> dict[str, Any]:
    given = visual_cloze_arguments()
    return {name: given[name] for name in ("task_prompt", "content_prompt", "image")}


ROWS = (
    Row("Ideogram4Pipeline", _ideogram, ideogram_arguments),
    Row(
        "LongCatAudioDiTPipeline",
        _longcat_audio,
        lambda: {"prompt": "rain", "latents": text(8, tokens=12, seed=6)},
    ),
    Row("ZImageControlNetPipeline", make_z_image_controlnet, z_image_control_arguments),
    Row(
        "ZImageControlNetInpaintPipeline",
        lambda: make_z_image_controlnet(ZImageControlNetInpaintPipeline),
        lambda: z_image_control_arguments(image=picture(SIZE), mask_image=inpainting_mask(SIZE)),
    ),
    Row("VisualClozeGenerationPipeline", _visual_cloze, _visual_cloze_arguments),
)
