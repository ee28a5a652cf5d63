"""What tiny pipelines have in common: schedulers, random prompts, and how a case is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

STEPS = 50
SIZE = 64
"""Pixels: 8 × 8 latents, 4 × 4 tokens."""
TEXT_TOKENS = 5
TEXT_WIDTH = 16
POOLED_WIDTH = 8


def euler_scheduler(**config: Any) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler of FLUX, Qwen-Image and Z-Image; shifted by 3 unless configured otherwise."""
    return FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **config})


def unipc_scheduler(**config: Any) -> UniPCMultistepScheduler:
    """The scheduler of Wan, SkyReels and Cosmos."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return UniPCMultistepScheduler(**{**flow, **config})


def dpm_scheduler(**config: Any) -> DPMSolverMultistepScheduler:
    """The scheduler of Sana."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return DPMSolverMultistepScheduler(**{**flow, **config})


def quiet(pipe: Any) -> Any:
    """The pipeline without its progress bar."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


def text_embeddings(batch: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random embeddings of prompts."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, TEXT_TOKENS, TEXT_WIDTH, generator=generator).to(dtype)


def pooled_embeddings(batch: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random embeddings of whole prompts."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, POOLED_WIDTH, generator=generator).to(dtype)


@dataclass(frozen=True)
class Case:
    """A kind of pipeline to test on.

    Attributes:
        name: shown as the test's id.
        make: builds the pipeline.
        arguments: builds its call arguments for a batch size.
        calls_per_step: of the transformer.
        probe: a submodule that every forward of the transformer runs exactly once.
    """

    name: str
    make: Callable[[], Any]
    arguments: Callable[..., dict[str, Any]]
    calls_per_step: int
    probe: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def run(self, pipe: Any, **overrides: Any) -> torch.Tensor:
        """One call of the pipeline, by default of 50 steps from seed 0; gives the latents."""
        batch = overrides.pop("batch", 1)
        seed = overrides.pop("seed", 0)
        arguments = {
            "num_inference_steps": STEPS,
            "generator": torch.Generator().manual_seed(seed),
            "output_type": "latent",
            **self.arguments(batch, **self.options),
            **overrides,
        }
        output = pipe(**arguments)
        return output.frames if hasattr(output, "frames") else output.images


@contextmanager
def count_forwards(module: torch.nn.Module) -> Iterator[list[int]]:
    """Count the real forward passes of a module; the count is the length of the list."""
    calls: list[int] = []
    handle = module.register_forward_pre_hook(lambda *_: calls.append(len(calls)))
    try:
        yield calls
    finally:
        handle.remove()
