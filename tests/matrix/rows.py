"""The rows, and the pipelines that have none, with the reason."""

from __future__ import annotations

import inspect
import sys

import diffusers
from diffusers import DiffusionPipeline
from tiny_pipelines import (
    flux_family,
    hunyuan_family,
    image_family,
    qwen_family,
    video_family,
    wan_family,
)

ROWS = (
    *flux_family.ROWS,
    *qwen_family.ROWS,
    *image_family.ROWS,
    *wan_family.ROWS,
    *hunyuan_family.ROWS,
    *video_family.ROWS,
)

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
