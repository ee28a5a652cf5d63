"""One run of a pipeline, timed: its denoising loop, the whole call, and the memory it takes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GIB = 2**30


@dataclass
class Loop:
    """When the denoising loop of the last run began and ended, in seconds."""

    began: float = 0.0
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True)
class Run:
    """What one run took.

    Attributes:
        loop_seconds: of the denoising loop, from before the first step to after the last.
        call_seconds: of the whole call.
        peak_memory_gib: the most that was allocated during the call; None on a CPU.
        finite: whether the output has neither NaN nor infinity.
        output: of the pipeline.
    """

    loop_seconds: float
    call_seconds: float
    peak_memory_gib: float | None
    finite: bool
    output: torch.Tensor = field(repr=False)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def timed(
    pipe: Any, arguments: Mapping[str, Any], steps: int, device: torch.device, *, decode: bool
) -> Run:
    """Run the pipeline once.

    Args:
        pipe: to be run as it is, cache and all.
        arguments: of the call, besides steps, noise and what to give back.
        steps: denoising steps.
        device: where it runs, and is waited for before any clock is read.
        decode: whether the latents are decoded.
    """
    synchronize(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with timed_loop(pipe, device) as loop:
        began = time.perf_counter()
        output = call(pipe, arguments, steps, device, decode=decode)
        synchronize(device)
        seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else None
    finite = bool(torch.isfinite(output).all())
    return Run(loop.seconds, seconds, peak, finite, output)


@torch.no_grad()
def call(
    pipe: Any, arguments: Mapping[str, Any], steps: int, device: torch.device, *, decode: bool
) -> torch.Tensor:
    """Call the pipeline from the same noise as ever, and return pictures, frames or latents."""
    answer = pipe(
        **arguments,
        num_inference_steps=steps,
        generator=torch.Generator(device).manual_seed(0),
        output_type="pt" if decode else "latent",
    )
    output: torch.Tensor = answer.frames if hasattr(answer, "frames") else answer.images
    return output


@contextmanager
def timed_loop(pipe: Any, device: torch.device) -> Iterator[Loop]:
    """Time the loop of any run meanwhile: it is what a pipeline encloses in its progress bar."""
    loop = Loop()
    pipe.progress_bar = lambda *_, **__: _Bar(loop, device)
    try:
        yield loop
    finally:
        del pipe.progress_bar


class _Bar:
    """Stands in for a progress bar, and reads the clock when it begins and ends."""

    def __init__(self, loop: Loop, device: torch.device) -> None:
        self._loop = loop
        self._device = device

    def __enter__(self) -> _Bar:
        synchronize(self._device)
        self._loop.began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        synchronize(self._device)
        self._loop.ended = time.perf_counter()

    def update(self, *_: object) -> None:
        """Do nothing."""


@contextmanager
def counted(module: torch.nn.Module) -> Iterator[list[int]]:
    """Count the forwards of a module; their number is the length of the list."""
    calls: list[int] = []
    handle = module.register_forward_pre_hook(lambda *_: calls.append(len(calls)))
    try:
        yield calls
    finally:
        handle.remove()
