"""What a denoiser computes, as products of sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from otcache_plugin.comparing.work import counted_work
from otcache_plugin.errors import PipelineError


@torch.no_grad()
def test_work_is_the_products_of_the_denoisers_linear_layers() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(8, 7), torch.nn.GELU(), torch.nn.Linear(7, 3))
    pipe: Any = SimpleNamespace(transformer=layers, vae=torch.nn.Linear(8, 7))
    tokens = torch.ones(2, 5, 8)
    with counted_work(pipe) as work:
        pipe.transformer(tokens)
        pipe.vae(tokens)
    pipe.transformer(tokens)
    assert work.products == 2 * 5 * (8 * 7 + 7 * 3)


def test_without_a_denoiser_there_is_nothing_to_count() -> None:
    pipe: Any = SimpleNamespace(vae=torch.nn.Linear(8, 7))
    with pytest.raises(PipelineError), counted_work(pipe):
        pass
