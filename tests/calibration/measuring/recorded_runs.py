"""Runs of the small flow to be recorded, and the schedule that accelerates one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from otcache_policies import Schedule

from otcache_plugin.calibration.measuring.trajectories import Trajectory
from otcache_plugin.models.exact_flow import ExactFlowPipeline

PROMPTS = [f"kind {number}" for number in range(5)]
STEPS = 10
Recorded = Callable[..., Trajectory]

SCHEDULE = Schedule([0, 1, 4, 7, 9], STEPS, [1, 2, 3, 2])


def run(pipe: ExactFlowPipeline, prompts: list[str] = PROMPTS[:2], first: int = 0) -> torch.Tensor:
    """Final latents; the first prompt is drawn with seed `first`, the next ones with the next."""
    generators = [torch.Generator().manual_seed(first + i) for i in range(len(prompts))]
    latents: torch.Tensor = pipe(
        prompts, num_inference_steps=STEPS, generator=generators, output_type="latent"
    ).images
    return latents
