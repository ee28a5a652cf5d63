"""A pipeline's `__call__` taken from its class goes past the policy, and is told so."""

from __future__ import annotations

from typing import Any

import cache_dit
import pytest
import torch
from diffusers import FluxPipeline
from own_calls import BUDGET, EXECUTORS, TOTAL, call_transformer, make_pipe, run, sibling_of
from tiny_pipelines import count_forwards, flux_arguments

import otcache_plugin
from otcache_plugin.errors import ExecutionError


def by_hand(pipe: Any) -> torch.Tensor:
    """What `run` does, by the class."""
    return FluxPipeline.__call__(
        pipe,
        **flux_arguments(),
        num_inference_steps=TOTAL,
        output_type="latent",
        generator=torch.Generator().manual_seed(0),
    ).images


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_call_by_the_class_is_refused_before_anything_runs(executor: str) -> None:
    pipe = make_pipe()
    plain = by_hand(pipe)
    assert torch.equal(plain, run(pipe))
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET, executor=executor)
    accelerated = run(pipe)
    with (
        count_forwards(pipe.transformer) as forwards,
        pytest.raises(ExecutionError, match=r"FluxPipeline.__call__\(pipe, …\) goes past"),
    ):
        by_hand(pipe)
    assert not forwards
    assert torch.equal(run(pipe), accelerated)
    assert otcache_plugin.summary(pipe).as_planned
    assert torch.equal(by_hand(sibling_of(pipe)), plain)
    call_transformer(pipe)
    cache_dit.disable_cache(pipe)
    assert torch.equal(by_hand(pipe), plain)


def test_a_subclass_may_call_its_base() -> None:
    class Twice(FluxPipeline):
        """Calls its base."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    pipe = make_pipe()
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET)
    expected = run(pipe)
    other = Twice(**pipe.components)
    other.set_progress_bar_config(disable=True)
    cache_dit.enable_cache(other, policy="uniform", budget=BUDGET)
    assert torch.equal(run(other), expected)
    assert otcache_plugin.summary(other).as_planned
