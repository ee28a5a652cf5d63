"""Recorded trajectories of full runs.

A trajectory lies in files, since that of a video fills an accelerator. It is trusted only as far as
its own scheduler, stepped through it once more, arrives at the very same latents.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from otcache_plugin.calibration.errors import RecordingError
from otcache_plugin.executors.schedulers import copy_scheduler, supported_substitute
from otcache_plugin.pipelines.method_hook import MethodHook
from otcache_plugin.pipelines.parts import find_scheduler, refuse_token_noise_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from diffusers import DiffusionPipeline


@dataclass
class Trajectory:
    """A recorded run of T steps, its tensors in one file each.

    Attributes:
        folder: where the files lie.
        sigmas: `(T + 1,)` float32 on the CPU; empty before the first step.
        scheduler: a copy of the pipeline's as it was before the first step.
        timesteps: what `scheduler.step` was called with at the steps so far.
        device: of the pipeline's latents.
    """

    folder: Path
    sigmas: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    scheduler: Any = None
    timesteps: list[Any] = field(default_factory=list)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def num_inference_steps(self) -> int:
        """T, as the scheduler has it: how many steps the run is to have."""
        return max(len(self.sigmas) - 1, 0)

    def x(self, step: int) -> torch.Tensor:
        """Return the latents before a step, of T at the end, on the CPU, in their own dtype."""
        return self._read("x", step)

    def v(self, step: int) -> torch.Tensor:
        """Return the velocity handed to `scheduler.step` at a step, likewise."""
        return self._read("v", step)

    def write(self, name: str, step: int, tensor: torch.Tensor) -> None:
        """Store `x` or `v` of a step."""
        path = self._path(name, step)
        # Older safetensors write into the file, which a reader may have mapped into memory.
        path.unlink(missing_ok=True)
        save_file({name: tensor.detach().cpu().contiguous()}, path)

    def _read(self, name: str, step: int) -> torch.Tensor:
        return load_file(self._path(name, step))[name]

    def _path(self, name: str, step: int) -> Path:
        return self.folder / f"{name}-{step:04}.safetensors"


@contextmanager
def record(pipe: DiffusionPipeline, folder: Path) -> Iterator[Trajectory]:
    """Record the pipeline call made inside the block.

    Every step is written before the next one begins; on the accelerator nothing is kept.

    Args:
        pipe: the pipeline.
        folder: where to; made if it is not there. A recording that is there already is overwritten.

    Raises:
        PipelineError: the scheduler is none that anything can stand in for.
        RecordingError: by the pipeline call, when it changes the latents between two steps, when
            they are not finite, or when there is a second one.
    """
    scheduler = find_scheduler(pipe)
    supported_substitute(scheduler)
    folder.mkdir(parents=True, exist_ok=True)
    trajectory = Trajectory(folder)

    def step(
        original: Callable[..., Any],
        model_output: torch.Tensor,
        timestep: Any,
        sample: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        refuse_token_noise_levels(kwargs, "Calibrate another pipeline of the model")
        _require_continued(trajectory, sample)
        before = None if trajectory.timesteps else copy_scheduler(scheduler)
        result = original(model_output, timestep, sample, *args, **kwargs)
        if before is not None:
            trajectory.scheduler, trajectory.device = before, sample.device
            trajectory.sigmas = _sigmas_after_first_step(scheduler)
            trajectory.write("x", 0, sample)
        index = len(trajectory.timesteps)
        _require_finite(result[0], index)
        trajectory.write("v", index, model_output)
        trajectory.write("x", index + 1, result[0])
        trajectory.timesteps.append(timestep)
        return result

    hook = MethodHook(scheduler, "step", step)
    try:
        yield trajectory
    finally:
        hook.remove()


@dataclass
class WatchedSigmas:
    """What was seen of a run.

    Attributes:
        sigmas: `(T + 1,)` float32 on the CPU; empty before the first step.
    """

    sigmas: torch.Tensor = field(default_factory=lambda: torch.empty(0))


@contextmanager
def watch_sigmas(pipe: DiffusionPipeline) -> Iterator[WatchedSigmas]:
    """Watch the noise schedule of the pipeline calls made inside the block; keep nothing else."""
    scheduler, watched = find_scheduler(pipe), WatchedSigmas()

    def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if not len(watched.sigmas):
            watched.sigmas = _sigmas_after_first_step(scheduler)
        return result

    hook = MethodHook(scheduler, "step", step)
    try:
        yield watched
    finally:
        hook.remove()


def _sigmas_after_first_step(scheduler: Any) -> torch.Tensor:
    # Not begin_index: image-to-image pipelines may leave that unset and begin later.
    sigmas: torch.Tensor = scheduler.sigmas[scheduler.step_index - 1 :].float().cpu()
    return sigmas


def _require_continued(trajectory: Trajectory, sample: torch.Tensor) -> None:
    """Raise RecordingError unless a step takes up the latents where the last one left them."""
    step = len(trajectory.timesteps)
    if step == 0:
        return
    if step == trajectory.num_inference_steps:
        raise RecordingError(
            "step", step, "a second run in one recording", "Record every pipeline call on its own"
        )
    if not torch.equal(sample.cpu().float(), trajectory.x(step).float()):
        raise RecordingError(
            "step",
            step,
            "the latents are not those that the step before gave: the pipeline or a callback "
            "changes them between steps, which no edge accounts for",
            "Calibrate without inpainting masks and callbacks that change the latents",
        )


def _require_finite(latents: torch.Tensor, step: int) -> None:
    if not latents.isfinite().all():
        raise RecordingError(
            "step",
            step,
            "the latents after it are not finite",
            "Check what the pipeline generates: its precision or its scheduler's options may be "
            "at fault",
        )
