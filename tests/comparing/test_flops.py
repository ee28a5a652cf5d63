"""Floating-point operations of a call, against products of sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from otcache_plugin.comparing.flops import Flops, flops
from otcache_plugin.comparing.work import counted_work
from otcache_plugin.errors import PipelineError

BATCH, HEADS, TOKENS, WIDTH, OUT = 2, 3, 5, 8, 7


class Attending(torch.nn.Module):
    """A linear layer, then attention of `HEADS` heads over what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(WIDTH, OUT)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.linear(tokens)
        heads = tokens[:, None].expand(-1, HEADS, -1, -1).contiguous()
        return F.scaled_dot_product_attention(heads, heads, heads)


def a_pipeline() -> Any:
    return SimpleNamespace(transformer=Attending(), vae=torch.nn.Linear(WIDTH, OUT))


LINEAR = BATCH * TOKENS * WIDTH * OUT
"""Multiplications of the linear layer."""


@torch.no_grad()
def test_the_operations_are_the_products_of_sizes() -> None:
    pipe, tokens = a_pipeline(), torch.ones(BATCH, TOKENS, WIDTH)

    def call() -> None:
        pipe.transformer(tokens)
        pipe.transformer(tokens)
        pipe.vae(tokens)

    attention = 2 * BATCH * HEADS * TOKENS * TOKENS * WIDTH  # scores, then values
    denoiser = 2 * (2 * LINEAR + 2 * attention)
    assert flops(pipe, call) == Flops(denoiser + 2 * LINEAR, denoiser)


@torch.no_grad()
def test_work_is_the_products_of_the_denoisers_linear_layers() -> None:
    pipe, tokens = a_pipeline(), torch.ones(BATCH, TOKENS, WIDTH)
    with counted_work(pipe) as work:
        pipe.transformer(tokens)
        pipe.vae(tokens)
    pipe.transformer(tokens)
    assert work.products == LINEAR


def test_without_a_denoiser_there_is_nothing_to_tell_apart() -> None:
    with pytest.raises(PipelineError):
        flops(SimpleNamespace(vae=torch.nn.Linear(WIDTH, OUT)), lambda: None)  # type: ignore[arg-type]
