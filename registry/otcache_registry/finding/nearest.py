"""Which of several sampling set-ups is nearest to a run, and what differs between the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isclose, log

from otcache_registry.documents.fields import UNKNOWN, Sampling

__all__ = [
    "MOST_PIXELS",
    "Difference",
    "Kind",
    "RunSetup",
    "differences",
    "distance",
    "is_of_another_kind",
]

MOST_PIXELS = 2.0
"""How many times as many pixels a run may have as the calibration before it matters."""


@dataclass(frozen=True)
class RunSetup:
    """What is known of a run, or of a pipeline's usual ones.

    Attributes:
        pipeline: Class name of the pipeline.
        num_inference_steps: Its steps, None where unknown.
        height: Height in pixels, None where unknown.
        width: Width in pixels, likewise.
        guidance: Guidance arguments of the call, with the defaults of those that it leaves out.
        usual_guidance: The defaults alone, with which a set-up that names none was calibrated.
        scheduler: Class name of the pipeline's scheduler, None where unknown.
        executor: What makes its schedule happen, None where unknown.
        calibrator: The calibrator of cache-dit that extrapolates on its cached steps, if any.
    """

    pipeline: str
    num_inference_steps: int | None = None
    height: int | None = None
    width: int | None = None
    guidance: Mapping[str, float] = field(default_factory=dict)
    usual_guidance: Mapping[str, float] = field(default_factory=dict)
    scheduler: str | None = None
    executor: str | None = None
    calibrator: str | None = None


class Kind(StrEnum):
    """What may differ between a run and the runs of a calibration."""

    SCHEDULER = "scheduler"
    PIPELINE = "pipeline"
    EXECUTOR = "executor"
    GUIDANCE = "guidance"
    SIZE = "size"


@dataclass(frozen=True)
class Difference:
    """One thing in which a run differs from those of a calibration.

    Attributes:
        kind: What it is.
        text: Both values, for people.
        matters: Whether the figures of the calibration can no longer be relied on.
    """

    kind: Kind
    text: str
    matters: bool


def is_of_another_kind(sampling: Sampling, run: RunSetup) -> tuple[bool, bool]:
    """Return whether a set-up's scheduler is another than the run's, and whether its pipeline is.

    The scheduler counts more: what can stand in on a cached step depends on it, so that a schedule
    for another one may be refused.
    """
    return (
        run.scheduler is not None and sampling.scheduler not in (run.scheduler, UNKNOWN),
        sampling.pipeline not in (run.pipeline, UNKNOWN),
    )


def distance(sampling: Sampling, run: RunSetup) -> tuple[float, ...]:
    """Return how far a set-up is from a run, by what counts most first.

    That is the scheduler, the pipeline, the executor, the steps, the guidance and the size. Steps
    and pixels go by their ratio. What is unknown of either counts as the same.
    """
    steps = run.num_inference_steps
    guidance = [abs(theirs - ours) for theirs, ours in _guidance(sampling, run).values()]
    pixels = _pixel_ratio(sampling, run)
    return (
        *is_of_another_kind(sampling, run),
        _executor_distance(sampling, run),
        0.0 if steps is None else abs(log(steps / sampling.num_inference_steps)),
        max(guidance, default=0.0),
        0.0 if pixels is None else abs(log(pixels)),
    )


def differences(sampling: Sampling, run: RunSetup) -> tuple[Difference, ...]:
    """Return how a run differs from a calibration's set-up, except in steps and noise levels."""
    found = []
    other_scheduler, other_pipeline = is_of_another_kind(sampling, run)
    if other_scheduler:
        text = f"scheduler {run.scheduler} instead of {sampling.scheduler}"
        found.append(Difference(Kind.SCHEDULER, text, True))
    if other_pipeline:
        text = f"pipeline {run.pipeline} instead of {sampling.pipeline}"
        found.append(Difference(Kind.PIPELINE, text, True))
    if _executor_distance(sampling, run):
        text = f"executor {_executor(run)} instead of {_executor(sampling)}"
        found.append(Difference(Kind.EXECUTOR, text, True))
    for name, (calibrated, value) in _guidance(sampling, run).items():
        if not isclose(calibrated, value):
            text = f"{name} {value:g} instead of {calibrated:g}"
            found.append(Difference(Kind.GUIDANCE, text, True))
    if (sampling.height, sampling.width) != (run.height, run.width):
        ratio = _pixel_ratio(sampling, run)
        if ratio is not None:
            sizes = f"{run.width} × {run.height} instead of {sampling.width} × {sampling.height}"
            found.append(Difference(Kind.SIZE, f"size {sizes}", ratio > MOST_PIXELS))
    return tuple(found)


def _executor_distance(sampling: Sampling, run: RunSetup) -> float:
    """Return 0 where the executors are the same, 1 where their calibrators differ, else 2."""
    if None in (sampling.executor, run.executor):
        return 0.0
    if sampling.executor != run.executor:
        return 2.0
    return float(sampling.calibrator != run.calibrator)


def _executor(of: Sampling | RunSetup) -> str:
    """Return an executor and its calibrator, for people."""
    return f"{of.executor}" if of.calibrator is None else f"{of.executor} with {of.calibrator}"


def _guidance(sampling: Sampling, run: RunSetup) -> dict[str, tuple[float, float]]:
    """Return the calibration's and the run's value of every guidance argument that both have."""
    usual = run.usual_guidance if sampling.pipeline == run.pipeline else {}
    calibrated = {**usual, **sampling.guidance}
    return {
        name: (value, run.guidance[name])
        for name, value in calibrated.items()
        if name in run.guidance
    }


def _pixel_ratio(sampling: Sampling, run: RunSetup) -> float | None:
    """Return how many times the calibration's pixels a run has, None where that is unknown."""
    sizes = (sampling.height, sampling.width, run.height, run.width)
    height, width, own_height, own_width = (0 if side is None else side for side in sizes)
    if not all((height, width, own_height, own_width)):
        return None
    return own_height * own_width / (height * width)
