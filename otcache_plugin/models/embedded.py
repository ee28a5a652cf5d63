"""The embedded model: a trained Flux pipeline of 32 × 32 scenes that ships with the package."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers import FluxPipeline

from otcache_plugin.models.precision import convert

__all__ = [
    "FOLDER",
    "SEQUENCE_LENGTH",
    "TRUE_CFG_SCALE",
    "FluxScenesPipeline",
    "load_embedded_pipeline",
]

SEQUENCE_LENGTH = 8
"""Text tokens of a caption, start and end included."""

TRUE_CFG_SCALE = 4.0
"""Default guidance, as two transformer calls per step."""

MODEL_ID = "embedded"
FOLDER = Path(__file__).parent / "embedded"


class FluxScenesPipeline(FluxPipeline):
    """A FluxPipeline whose call defaults fit 32 × 32 scenes: size, text length, true guidance."""

    @property
    def otcache_model(self) -> tuple[str, str] | None:
        """Model id and revision that policy documents are keyed by; None for other weights."""
        weights = (FOLDER / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
        # A path in the config may be copied to other weights, so the weights are compared.
        shipped, running = safetensors.torch.load(weights), self.transformer.state_dict()
        same = shipped.keys() == running.keys() and all(
            _is_stored_as(running[name], stored) for name, stored in shipped.items()
        )
        return (MODEL_ID, hashlib.sha256(weights).hexdigest()) if same else None

    def __call__(
        self,
        prompt: str | list[str] | None = None,
        *,
        negative_prompt: str | list[str] | None = "",
        true_cfg_scale: float = TRUE_CFG_SCALE,
        height: int = 32,
        width: int = 32,
        num_inference_steps: int = 50,
        max_sequence_length: int = SEQUENCE_LENGTH,
        **arguments: Any,
    ) -> Any:
        """Call `FluxPipeline` with these defaults; all its other arguments are accepted."""
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


def _is_stored_as(running: torch.Tensor, stored: torch.Tensor) -> bool:
    return running.shape == stored.shape and torch.equal(running.cpu(), stored.to(running.dtype))


def load_embedded_pipeline(torch_dtype: torch.dtype = torch.float32) -> FluxScenesPipeline:
    """Load the trained pipeline that ships with the package.

    Args:
        torch_dtype: what to run in; the weights are stored in half precision.

    Returns:
        The pipeline on the CPU, its progress bar off.

    Examples:
        >>> import otcache_plugin
        >>> pipe = otcache_plugin.load_embedded_pipeline()
        >>> pipe("red circle left on navy", num_inference_steps=10).images[0].size
        (32, 32)
    """
    pipeline: FluxScenesPipeline = FluxScenesPipeline.from_pretrained(
        FOLDER, low_cpu_mem_usage=False
    )
    convert(pipeline, torch_dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
