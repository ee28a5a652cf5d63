"""Runs of a bench's calibration pairs, as tests of methods compare them."""

from __future__ import annotations

from typing import Any

import torch

from otcache_plugin.comparing.methods import Bench
from otcache_plugin.comparing.work import counted_work
from otcache_plugin.evaluation.outputs import generate_outputs


def latents(bench: Bench, **changes: Any) -> torch.Tensor:
    """The latents of two pairs."""
    arguments = {**bench.call_arguments, **changes}
    pairs = bench.calibration_pairs(2)
    return generate_outputs(bench.pipe, pairs, arguments, spaces=frozenset({"latents"})).latents


def run(bench: Bench) -> tuple[torch.Tensor, int]:
    """The latents of two pairs, and the products that the linear layers took for them."""
    with counted_work(bench.pipe) as work:
        made = latents(bench)
    return made, work.products
