"""How long a pipeline call takes with each method, measured in turns."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from otcache_plugin.comparing.three_methods import enabled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diffusers import DiffusionPipeline
    from numpy.typing import NDArray

    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.comparing.three_methods import Contender
    from otcache_plugin.evaluation.pairs import Pair


@dataclass(frozen=True, eq=False)
class Times:
    """Times of calls.

    Attributes:
        measured: `(rounds, 1 + contenders)` seconds, the full run first.
    """

    measured: NDArray[np.float64]

    @property
    def seconds(self) -> list[float]:
        """Median time of the full run, then of each contender."""
        medians: list[float] = np.median(self.measured, axis=0).tolist()
        return medians

    @property
    def speedups(self) -> list[float]:
        """The full run's time over each contender's, the median of the rounds' ratios."""
        ratios: list[float] = np.median(
            self.measured[:, :1] / self.measured[:, 1:], axis=0
        ).tolist()
        return ratios


def measure_times(
    pipe: DiffusionPipeline,
    contenders: Sequence[Contender],
    pairs: Sequence[Pair],
    call_arguments: Mapping[str, Any],
    rounds: int,
    progress: CalibrationProgress,
) -> Times:
    """Time a call of all pairs, without decoding, the full run and every contender in turn.

    Every round takes all of them, so that what slows the machine down for a while slows down both
    sides of a ratio.
    """
    measured = np.empty((rounds, 1 + len(contenders)))
    for own in measured:
        own[0] = _seconds(pipe, pairs, call_arguments)
        progress.advance(call_arguments["num_inference_steps"] * len(pairs))
        for index, contender in enumerate(contenders, start=1):
            with enabled(pipe, contender.arguments):
                own[index] = _seconds(pipe, pairs, call_arguments)
            progress.advance(contender.schedule.budget * len(pairs))
    return Times(measured)


def _seconds(
    pipe: DiffusionPipeline, pairs: Sequence[Pair], call_arguments: Mapping[str, Any]
) -> float:
    generators = [torch.Generator().manual_seed(pair.seed) for pair in pairs]
    started = perf_counter()
    pipe(
        prompt=[pair.prompt for pair in pairs],
        generator=generators,
        output_type="latent",
        **call_arguments,
    )
    return perf_counter() - started


def machine(device: torch.device) -> str:
    """Return what times on a device are measured on, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return (
        f"{threads} CPU thread{'s' if threads > 1 else ''} ({platform.machine()}), "
        f"torch {torch.__version__}"
    )
