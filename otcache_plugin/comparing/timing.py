"""How long a pipeline's call takes with each method, measured in turns."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from diffusers import DiffusionPipeline
    from numpy.typing import NDArray

    from otcache_plugin.comparing.lineup import Entrant
    from otcache_plugin.comparing.methods import Bench
    from otcache_plugin.evaluation.pairs import Pair


@dataclass(frozen=True)
class Timed:
    """One turn of a variant.

    Attributes:
        loop: seconds of a call without decoding, text encoding included.
        whole: seconds of a call with decoding.
        peak_memory: bytes that the GPU held at most during the latter; None on a CPU.
    """

    loop: float
    whole: float
    peak_memory: int | None


@dataclass(frozen=True, eq=False)
class Times:
    """Times of calls.

    Attributes:
        measured: `(rounds, 1 + methods)` seconds, the full run first.
    """

    measured: NDArray[np.float64]

    @property
    def seconds(self) -> list[float]:
        """Median time of the full run, then of each method."""
        medians: list[float] = np.median(self.measured, axis=0).tolist()
        return medians

    @property
    def speedups(self) -> list[float]:
        """The full run's time over each method's, the median of the rounds' ratios."""
        ratios: list[float] = np.median(
            self.measured[:, :1] / self.measured[:, 1:], axis=0
        ).tolist()
        return ratios


def time_variant(bench: Bench, entrant: Entrant, pairs: Sequence[Pair]) -> Timed:
    """Time a call of all pairs with a variant, without decoding and then with it.

    Raises:
        Exception: whatever the method raises.
    """
    on_gpu = bench.pipe.device.type == "cuda"
    with entrant.method.enabled(bench, entrant.variant) as differing:
        call = {**bench.call_arguments, **differing}
        loop = _seconds(bench.pipe, pairs, {**call, "output_type": "latent"})
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        whole = _seconds(bench.pipe, pairs, {**call, "output_type": "pt"})
        peak = torch.cuda.max_memory_allocated() if on_gpu else None
    return Timed(loop, whole, peak)


def _seconds(
    pipe: DiffusionPipeline, pairs: Sequence[Pair], call_arguments: Mapping[str, Any]
) -> float:
    generators = [torch.Generator().manual_seed(pair.seed) for pair in pairs]
    _wait(pipe)
    started = perf_counter()
    pipe(prompt=[pair.prompt for pair in pairs], generator=generators, **call_arguments)
    _wait(pipe)
    return perf_counter() - started


def _wait(pipe: DiffusionPipeline) -> None:
    """Have the device finish what it was given."""
    if pipe.device.type == "cuda":
        torch.cuda.synchronize()


def machine(device: torch.device) -> str:
    """Return what times on a device are measured on, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return (
        f"{threads} CPU thread{'s' if threads > 1 else ''} ({platform.machine()}), "
        f"torch {torch.__version__}"
    )
