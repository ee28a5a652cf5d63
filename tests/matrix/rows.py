"""The rows, and the pipelines that have none, with the reason."""

from __future__ import annotations

import inspect
import sys

import diffusers
from diffusers import DiffusionPipeline
from tiny_pipelines import (
    audio_family,
    cosmos_family,
    edit_family,
    flux_family,
    hunyuan_family,
    image_family,
    ltx2_family,
    new_image_family,
    other_rows,
    qwen_family,
    video_family,
    wan_family,
)

ROWS = (
    *flux_family.ROWS,
    *qwen_family.ROWS,
    *image_family.ROWS,
    *new_image_family.ROWS,
    *wan_family.ROWS,
    *hunyuan_family.ROWS,
    *edit_family.ROWS,
    *cosmos_family.ROWS,
    *video_family.ROWS,
    *ltx2_family.ROWS,
    *audio_family.ROWS,
    *other_rows.ROWS,
)

NEEDS_ENCODER = "its prompt cannot be given as embeddings"

NOT_TRIED = {
    "AceStepPipeline": NEEDS_ENCODER,
    "Amused": "it predicts tokens, and follows no flow",
    "BooguImage": "it is not in diffusers",
    "BriaFiboEditPipeline": NEEDS_ENCODER,
    "ConsisID": "it is CogVideoX with a face encoder, and needs OpenCV",
    "DreamLiteMobilePipeline": "it denoises with a U-Net",
    "DreamLitePipeline": "it denoises with a U-Net",
    "EasyAnimateControlPipeline": "it gives encode_prompt an argument too many",
    "JoyImageEditPlusPipeline": "no row yet",
    "Kandinsky6SRPipeline": "no row yet",
    "Kandinsky5I2VPipeline": "no row yet: its latents are not finite with tiny random parts",
    "LTX2DFRTemporalRefinePipeline": "its scheduler adds noise, and is refused by name",
    "LTX2VideoDiffusionDecodePipeline": "it decodes, and has no transformer",
    "LTXI2VLongMultiPromptPipeline": NEEDS_ENCODER,
    "PRXPixelPipeline": "no row yet",
    "QwenImage21Pipeline": "no row yet",
    "SanaWMPipeline": "no row yet",
    "ShapE": "it denoises with a prior, and has no transformer",
    "VisualClozePipeline": "it runs its generation pipeline, which has a row, and another",
    "ZImageOmniPipeline": NEEDS_ENCODER,
}

FLOW = "FlowMatch"
"""What the module of every flow-matching pipeline has in it: the scheduler in a type or example."""


def class_name(row: str) -> str:
    """The class of a row's pipeline; the row may say more, as "WanPipeline (2.2)" does."""
    return row.partition(" ")[0]


def flow_matching_pipelines() -> list[str]:
    """The pipelines of diffusers that are flow-matching, by what their modules import."""
    found = []
    for name in dir(diffusers):
        value = getattr(diffusers, name) if name.endswith("Pipeline") else None
        if (
            isinstance(value, type)
            and issubclass(value, DiffusionPipeline)
            and FLOW in inspect.getsource(sys.modules[value.__module__])
        ):
            found.append(name)
    return found
