"""Fixtures of the evaluation tests: a small exact flow, and pictures."""

from __future__ import annotations

import pytest
import torch

from otcache_plugin.models.exact_flow import (
    ExactFlowPipeline,
    ExactFlowSettings,
    load_exact_flow_pipeline,
)


@pytest.fixture
def pipe() -> ExactFlowPipeline:
    """A fresh exact flow of 60 scenes, 15 of each of "kind 0" … "kind 3"."""
    pipe = load_exact_flow_pipeline(ExactFlowSettings(scenes=60))
    pipe.transformer.captions = tuple(f"kind {i % 4}" for i in range(60))
    return pipe


@pytest.fixture
def pictures() -> torch.Tensor:
    """Three smooth pictures of 32 × 32 pixels, all values well inside [0, 1]."""
    coarse = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return 0.2 + 0.6 * torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")
