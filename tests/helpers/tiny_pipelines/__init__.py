"""Tiny pipelines with random weights, built from configs: real code paths, milliseconds per step.

Nothing is loaded and nothing downloaded: prompts are random embeddings, there are no text encoders,
and latents are returned as they are. The same seed gives the same weights, so a second pipeline of
the same maker is an untouched twin of the first.
"""

from __future__ import annotations

from tiny_pipelines.common import (
    POOLED_WIDTH,
    SIZE,
    STEPS,
    TEXT_TOKENS,
    TEXT_WIDTH,
    Case,
    count_forwards,
    dpm_scheduler,
    euler_scheduler,
    quiet,
    unipc_scheduler,
)
from tiny_pipelines.flux import (
    FLUX,
    FLUX_DISTILLED,
    FLUX_GUIDED,
    flux_arguments,
    flux_velocity,
    make_flux,
    make_flux_img2img,
)
from tiny_pipelines.qwen import QWEN, make_qwen, qwen_arguments
from tiny_pipelines.wan import WAN, make_single_wan, make_wan, wan_arguments
from tiny_pipelines.z_image import Z_IMAGE, make_z_image, z_image_arguments

__all__ = [
    "CASES",
    "FLUX",
    "FLUX_DISTILLED",
    "FLUX_GUIDED",
    "POOLED_WIDTH",
    "QWEN",
    "SIZE",
    "STEPS",
    "TEXT_TOKENS",
    "TEXT_WIDTH",
    "WAN",
    "Z_IMAGE",
    "Case",
    "count_forwards",
    "dpm_scheduler",
    "euler_scheduler",
    "flux_arguments",
    "flux_velocity",
    "make_flux",
    "make_flux_img2img",
    "make_qwen",
    "make_single_wan",
    "make_wan",
    "make_z_image",
    "quiet",
    "qwen_arguments",
    "unipc_scheduler",
    "wan_arguments",
    "z_image_arguments",
]

CASES = (FLUX, FLUX_DISTILLED, FLUX_GUIDED, QWEN, Z_IMAGE)
