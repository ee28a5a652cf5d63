"""What the tests of a pipeline's own calls share: pipelines and siblings, and both executors."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import torch
from diffusers import FluxPipeline
from tiny_pipelines import FLUX, count_forwards, euler_scheduler, flux_velocity, make_flux, quiet

EXECUTORS = ("velocity", "blocks")
TOTAL = 12
BUDGET = 4


def make_pipe() -> Any:
    """A tiny Flux with blocks to skip."""
    return make_flux(num_layers=3, num_single_layers=2)


def run(pipe: Any, seed: int = 0, **overrides: Any) -> torch.Tensor:
    """One call of twelve steps; gives the latents."""
    return FLUX.run(pipe, num_inference_steps=TOTAL, seed=seed, **overrides)


def sibling_of(pipe: Any) -> Any:
    """Another pipeline of the same parts, with a scheduler of its own."""
    return quiet(FluxPipeline(**{**pipe.components, "scheduler": euler_scheduler()}))


@torch.no_grad()
def call_transformer(pipe: Any, seed: int = 0) -> torch.Tensor:
    """One direct call of the transformer, as training or a refiner makes."""
    x = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(seed))
    with pipe.transformer.cache_context("direct"):
        return flux_velocity(pipe.transformer, x, torch.tensor(500.0))


def computed(pipe: Any, executor: str, **arguments: Any) -> int:
    """How often a call of the pipeline runs the part of its transformer that is skipped."""
    transformer = pipe.transformer
    part = transformer.x_embedder if executor == "velocity" else transformer.transformer_blocks[2]
    with count_forwards(part) as forwards:
        run(pipe, **arguments)
    return len(forwards)


def in_thread(function: Callable[[], Any]) -> Any:
    """What a function gives in another thread, when that has ended."""
    given: list[Any] = []

    def work() -> None:
        try:
            given.append(function())
        except BaseException as error:
            given.append(error)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(given[0], BaseException):
        raise given[0]
    return given[0]


def at_step(step: int, function: Callable[[Any], object]) -> Any:
    """A callback that calls a function with the pipeline at the end of a step."""

    def callback(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if index == step:
            function(pipe)
        return tensors

    return callback
