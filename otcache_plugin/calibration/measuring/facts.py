"""What is to be known of a model: what its document says, and what its results depend on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from otcache_registry import Sampling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from otcache_plugin.models.setups import ModelSetup
    from otcache_plugin.runs.mechanism import Mechanism

LIBRARIES = ("otcache-plugin", "cache-dit", "diffusers", "torch", "optuna", "cmaes", "numpy")
"""Whose versions results depend on."""


@dataclass(frozen=True)
class ModelFacts:
    """What a document says about the model, and what its results depend on.

    Attributes:
        model: id that documents are keyed by.
        revision: likewise.
        pipeline: class name.
        scheduler: class name.
        guidance: the call's guidance arguments.
        call_arguments: all arguments of every call, as text.
        device: what it runs on.
        prompts_digest: SHA-256 of the calibration prompts.
        held_out_digest: SHA-256 of the evaluation prompts.
        libraries: version by name.
    """

    model: str
    revision: str
    pipeline: str
    scheduler: str
    guidance: dict[str, float]
    call_arguments: dict[str, str]
    device: str
    prompts_digest: str
    held_out_digest: str
    libraries: dict[str, str]


def facts_of(setup: ModelSetup) -> ModelFacts:
    """Return what there is to say about a set-up."""
    return ModelFacts(
        model=setup.origin.model,
        revision=setup.origin.revision,
        pipeline=type(setup.pipe).__name__,
        scheduler=type(setup.pipe.scheduler).__name__,
        guidance=dict(setup.guidance),
        call_arguments={name: repr(value) for name, value in setup.call_arguments.items()},
        device=setup.pipe.device.type,
        prompts_digest=setup.prompts_digest,
        held_out_digest=setup.held_out_digest,
        libraries={name: version(name) for name in LIBRARIES},
    )


def sampling_of(
    facts: ModelFacts,
    full_run: Mapping[str, NDArray[Any]],
    mechanism: Mechanism | None = None,
    calls_per_step: int | None = None,
) -> Sampling:
    """Return the sampling set-up of full runs, by what one of them gave.

    Args:
        facts: of the model.
        full_run: what it gave.
        mechanism: what schedules were run on besides; None where a policy decided.
        calls_per_step: of the transformer; None where they were not counted.
    """
    pictures = full_run.get("pictures")
    height, width = (None, None) if pictures is None else pictures.shape[-2:]
    sigmas = full_run["sigmas"].tolist()
    return Sampling(
        pipeline=facts.pipeline,
        scheduler=facts.scheduler,
        num_inference_steps=len(sigmas) - 1,
        sigmas=tuple(sigmas),
        height=height,
        width=width,
        guidance=facts.guidance,
        executor=None if mechanism is None else mechanism.executor,
        calibrator=None if mechanism is None else mechanism.calibrator,
        calls_per_step=calls_per_step,
    )
