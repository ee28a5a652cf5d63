"""Fixtures of the evaluation tests: a small exact flow, and pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

from otcache_plugin.evaluation import lpips_networks
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


@pytest.fixture
def patches(pictures: torch.Tensor) -> torch.Tensor:
    """A quarter of each picture, 16 × 16 pixels: enough for any metric, and quick for VGG."""
    return pictures[..., :16, :16]


@cache
def random_network(net: str) -> torch.nn.Module:
    """LPIPS with a backbone drawn at random: the pretrained one would have to be downloaded."""
    import lpips

    torch.manual_seed(0)
    network: torch.nn.Module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    return network


@pytest.fixture
def random_lpips(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], torch.nn.Module]:
    """`lpips` and `lpips-vgg` have random backbones, which this returns by their names."""
    monkeypatch.setattr(lpips_networks, "lpips_network", random_network)
    return random_network
