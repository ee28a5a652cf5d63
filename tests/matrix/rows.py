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
    latest_family,
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
    *latest_family.ROWS,
    *other_rows.ROWS,
)

NOT_TRIED = {
    "Amused": "it predicts tokens, and follows no flow",
    "BooguImage": "it is not in diffusers",
    "ConsisID": "it is CogVideoX with a face encoder, and needs OpenCV",
    "DreamLiteMobilePipeline": "it denoises with a U-Net, and has no transformer",
    "DreamLitePipeline": "it denoises with a U-Net, and has no transformer",
    "EasyAnimateControlPipeline": "its call fails, with a policy or without: it gives its own "
    "encode_prompt an argument that it does not take",
    "LTX2DFRTemporalRefinePipeline": "its scheduler adds noise, and is refused by name",
    "LTX2VideoDiffusionDecodePipeline": "it decodes, and has no transformer",
    "LTXI2VLongMultiPromptPipeline": "its scheduler adds noise, and is refused by name; it leaves "
    "out the last step that it sets that to",
    "ShapE": "it denoises with a prior, and has no transformer",
    "VisualClozePipeline": "its call is two runs of two pipelines, of which the first has a row",
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
