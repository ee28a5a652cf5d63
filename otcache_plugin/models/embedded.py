"""The embedded model: a trained Flux pipeline of 32 × 32 scenes that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline

SEQUENCE_LENGTH = 8
"""Text tokens of a caption, start and end included."""

FOLDER = Path(__file__).parent / "embedded"


class FluxScenesPipeline(FluxPipeline):
    """A FluxPipeline whose call defaults fit 32 × 32 scenes: size, text length, true guidance."""

    def __call__(
        self,
        prompt: str | list[str] | None = None,
        *,
        negative_prompt: str | list[str] | None = "",
        true_cfg_scale: float = 4.0,
        height: int = 32,
        width: int = 32,
        num_inference_steps: int = 50,
        max_sequence_length: int = SEQUENCE_LENGTH,
        **arguments: Any,
    ) -> Any:
        """Calls ``FluxPipeline`` with these defaults; all its other arguments are accepted."""
        return super().__call__(
            prompt,
            negative_prompt=negative_prompt,
            true_cfg_scale=true_cfg_scale,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            max_sequence_length=max_sequence_length,
            **arguments,
        )


def load_embedded_pipeline(torch_dtype: torch.dtype = torch.float32) -> FluxScenesPipeline:
    """Loads the trained pipeline that ships with the package.

    Args:
        torch_dtype: what to run in; the weights are stored in half precision.

    Returns:
        The pipeline on the CPU, its progress bar off.
    """
    pipeline = FluxScenesPipeline.from_pretrained(FOLDER, torch_dtype=torch_dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
