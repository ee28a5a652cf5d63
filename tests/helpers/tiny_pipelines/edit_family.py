"""Rows of pipelines that edit pictures: Qwen-Image's, LongCat's, OmniGen.

Most of them make a megapixel of every picture, which is too large for a row: here they make less.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLProcessor

from tiny_pipelines.building import (
    Row,
    answering,
    assemble,
    image_vae,
    inpainting_mask,
    model,
    pil_picture,
    prompts,
    text,
)
from tiny_pipelines.common import SIZE, TEXT_WIDTH, euler_scheduler
from tiny_pipelines.new_image_family import longcat_transformer
from tiny_pipelines.qwen_family import make_qwen_kind

PIXELS = {"height": SIZE, "width": SIZE}


def _small(module: str, *sizes: Any) -> None:
    """Have a module of diffusers take every picture for one of this size."""
    imported = importlib.import_module(f"diffusers.pipelines.{module}")
    imported.calculate_dimensions = lambda *_: sizes


def _qwen_edit(pipeline: str, module: str, *more: None, **parts: Any) -> Any:
    _small(f"qwenimage.pipeline_qwenimage_{module}", SIZE, SIZE, *more)
    return make_qwen_kind(pipeline, **parts)


class EncoderOfNothing(Qwen2_5_VLForConditionalGeneration):
    """Is asked for its dtype alone, where there are embeddings."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)


class ProcessorOfNothing(Qwen2VLProcessor):
    """Is asked for its parts, which nothing then uses."""

    image_processor = tokenizer = None

    def __init__(self) -> None:
        """Take none."""


def _qwen_layered() -> Any:
    return _qwen_edit("QwenImageLayeredPipeline", "layered", text_encoder=EncoderOfNothing())


def _qwen_edit_arguments(**others: Any) -> dict[str, Any]:
    return {
        **PIXELS,
        **prompts(TEXT_WIDTH, masked="_embeds_mask"),
        "image": pil_picture(SIZE),
        **others,
    }


def _longcat_edit() -> Any:
    _small("longcat_image.pipeline_longcat_image_edit", SIZE, SIZE)
    pipe = assemble(
        "LongCatImageEditPipeline",
        transformer=longcat_transformer(),
        scheduler=euler_scheduler(),
        vae=image_vae(channels=16),
        text_processor=ProcessorOfNothing(),
    )
    return answering(pipe, "encode_prompt", (text(TEXT_WIDTH), torch.zeros(5, 3)))


class TinyProcessor:
    """Stands in for OmniGen's processor of texts and pictures, which takes a tokenizer."""

    max_image_size = 1024

    def __call__(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Return four tokens for both of guidance's samples, without a picture."""
        tokens, patches = 4, (SIZE // 16) ** 2
        length = tokens + 1 + patches
        return {
            "input_ids": torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]]),
            "attention_mask": torch.ones(2, length, length, dtype=torch.long),
            "position_ids": torch.arange(length).expand(2, length),
            "input_pixel_values": [],
            "input_image_sizes": {},
        }


def _omnigen() -> Any:
    transformer = model(
        "OmniGenTransformer2DModel",
        in_channels=4,
        patch_size=2,
        hidden_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        num_layers=2,
        pad_token_id=0,
        vocab_size=8,
        max_position_embeddings=64,
        original_max_position_embeddings=64,
        pos_embed_max_size=8,
        time_step_dim=8,
        rope_scaling={"long_factor": [1.0] * 4, "short_factor": [1.0] * 4},
    )
    pipe = assemble(
        "OmniGenPipeline",
        transformer=transformer,
        scheduler=euler_scheduler(invert_sigmas=True, num_train_timesteps=1),
        vae=image_vae(),
        tokenizer=None,
    )
    pipe.multimodal_processor = TinyProcessor()
    return pipe


ROWS = (
    Row(
        "QwenImageEditPipeline",
        lambda: _qwen_edit("QwenImageEditPipeline", "edit", None),
        _qwen_edit_arguments,
    ),
    Row(
        "QwenImageEditPlusPipeline",
        lambda: _qwen_edit("QwenImageEditPlusPipeline", "edit_plus"),
        _qwen_edit_arguments,
    ),
    Row(
        "QwenImageEditPlusPipeline (two pictures)",
        lambda: _qwen_edit("QwenImageEditPlusPipeline", "edit_plus"),
        lambda: _qwen_edit_arguments(image=[pil_picture(SIZE), pil_picture(SIZE)]),
    ),
    Row(
        "QwenImageEditInpaintPipeline",
        lambda: _qwen_edit("QwenImageEditInpaintPipeline", "edit_inpaint", None),
        lambda: _qwen_edit_arguments(mask_image=inpainting_mask(SIZE), strength=1.0),
    ),
    Row(
        "QwenImageLayeredPipeline",
        _qwen_layered,
        lambda: {
            "prompt": "a cat",
            "image": pil_picture(SIZE),
            "layers": 2,
            "output_type": "pt",
            **prompts(TEXT_WIDTH, masked="_embeds_mask"),
        },
    ),
    Row(
        "LongCatImageEditPipeline",
        _longcat_edit,
        lambda: {"prompt": "a cat", "image": pil_picture(SIZE)},
    ),
    Row("OmniGenPipeline", _omnigen, lambda: {**PIXELS, "prompt": "a cat"}),
)
