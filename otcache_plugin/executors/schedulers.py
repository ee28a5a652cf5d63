"""Which schedulers are understood: what can stand in on a cached step, or why nothing can.

The average-velocity estimate is derived for Euler steps of a flow-matching velocity. A multistep
solver of the same flow makes something else of a velocity, but repeating the last one is a velocity
like any other to it. Where steps add noise, or the model predicts something else than a velocity,
neither is known to be right, so these are refused rather than run.
"""

from __future__ import annotations

import copy
from enum import Enum
from typing import Any

from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from otcache_plugin.errors import PipelineError

EULER = "a FlowMatchEulerDiscreteScheduler"
SET_EULER = f"Set {EULER} if the model predicts a flow-matching velocity"

ADDS_NOISE = "its steps add noise, so the latents' displacement is not an average velocity"
PREDICTIONS = ("epsilon", "sample", "v_prediction")

NOT_THE_FLOWS_NOISE_LEVELS = {
    UniPCMultistepScheduler: ("use_exponential_sigmas", "use_beta_sigmas"),
    DPMSolverMultistepScheduler: (
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "use_lu_lambdas",
    ),
}
"""Multistep solvers, with the options that override `use_flow_sigmas`."""

REASONS = {
    "FlowMatchHeunDiscreteScheduler": "it calls the transformer twice for one step",
    "FlowMatchLCMScheduler": ADDS_NOISE,
    "LTXEulerAncestralRFScheduler": ADDS_NOISE,
    "FlowMapEulerDiscreteScheduler": "its model predicts the velocity between two given noise "
    "levels, which is another one for every step",
    "MiniMaxH3Scheduler": "its velocities point from the noise to the data, against the sigmas",
    "PiflowScheduler": "its model predicts a whole policy for a step, not one velocity",
    "HeliosScheduler": "it runs in stages that each have noise levels of their own",
    "HeliosDMDScheduler": "it runs in stages that each have noise levels of their own",
    "SCMScheduler": ADDS_NOISE,
}
"""What stands against flow-matching schedulers of diffusers, by the name of the class."""


class Substitute(Enum):
    """What can stand in for the velocity of a cached step."""

    AVERAGE_VELOCITY = "extrapolated from the average velocity, with any look-back"
    PLAIN_REUSE = "the last velocity once more, which is look-back 1"


def supported_substitute(scheduler: Any) -> Substitute:
    """Return what can stand in on a cached step with this scheduler.

    Raises:
        PipelineError: nothing can: it is not known to take one deterministic step of a
            flow-matching velocity per transformer step.
    """
    if _steps_like(scheduler, FlowMatchEulerDiscreteScheduler):
        if scheduler.config.get("stochastic_sampling"):
            raise PipelineError(
                "scheduler.stochastic_sampling",
                True,
                ADDS_NOISE,
                "Set stochastic_sampling=False",
            )
        return Substitute.AVERAGE_VELOCITY
    for solver, overriding in NOT_THE_FLOWS_NOISE_LEVELS.items():
        if _steps_like(scheduler, solver):
            _require_plain_flow_solver(scheduler, overriding)
            return Substitute.PLAIN_REUSE
    raise _refusal(scheduler, _reason(scheduler))


def is_supported(scheduler: Any) -> bool:
    """Return whether anything can stand in on a cached step with this scheduler."""
    try:
        supported_substitute(scheduler)
    except PipelineError:
        return False
    return True


def require_look_back(
    scheduler: Any, look_back: int, whose: str, steps: int | str = "num_inference_steps"
) -> None:
    """Check that the scheduler can do what a schedule or a policy asks for.

    Args:
        scheduler: of the pipeline.
        look_back: the largest one of a cached step.
        whose: "the schedule" or "the policy", for the error.
        steps: of the run, where known, for the remedy.

    Raises:
        PipelineError: that is further back than the scheduler allows.
    """
    if look_back > 1 and supported_substitute(scheduler) is Substitute.PLAIN_REUSE:
        raise PipelineError(
            "scheduler",
            type(scheduler).__name__,
            f"its steps are not Euler steps, so a cached step can only repeat the last velocity, "
            f"and {whose} has a look-back of {look_back}",
            f"Pass a schedule of look-back 1, policy=Schedule(computed_steps, {steps}), or a "
            f"policy calibrated with this scheduler, or set {EULER}",
        )


def copy_scheduler(scheduler: Any) -> Any:
    """Return a scheduler in the same state, without the hooks that stand in for its methods."""
    state = {
        name: value
        for name, value in vars(scheduler).items()
        if not callable(getattr(type(scheduler), name, None))
    }
    twin = object.__new__(type(scheduler))
    vars(twin).update(copy.deepcopy(state))
    return twin


def _steps_like(scheduler: Any, known: type) -> bool:
    """Return whether `step` is that of a known class; a subclass may override it."""
    return isinstance(scheduler, known) and type(scheduler).step is known.step  # type: ignore[attr-defined]


def _require_plain_flow_solver(scheduler: Any, overriding: tuple[str, ...]) -> None:
    config = scheduler.config
    prediction = config.get("prediction_type")
    if prediction != "flow_prediction":
        raise _refusal(scheduler, _predicts(prediction))
    if not config.get("use_flow_sigmas"):
        raise PipelineError(
            "scheduler.use_flow_sigmas",
            config.get("use_flow_sigmas"),
            f"the noise levels of this {type(scheduler).__name__} are not those of flow matching",
            "Set use_flow_sigmas=True",
        )
    for option in overriding:
        if config.get(option):
            raise PipelineError(
                f"scheduler.{option}",
                config.get(option),
                "it overrides use_flow_sigmas with noise levels that are not those of flow "
                "matching",
                f"Set {option}=False",
            )
    if "sde" in config.get("algorithm_type", ""):
        raise PipelineError(
            "scheduler.algorithm_type",
            config["algorithm_type"],
            ADDS_NOISE,
            "Set algorithm_type='dpmsolver++'",
        )
    if getattr(scheduler, "solver_p", None) is not None:
        raise PipelineError(
            "scheduler.solver_p",
            type(scheduler.solver_p).__name__,
            "another scheduler takes a part of its steps",
            "Set solver_p=None",
        )


def _reason(scheduler: Any) -> str:
    config = getattr(scheduler, "config", {})
    if type(scheduler).__name__ in REASONS:
        return REASONS[type(scheduler).__name__]
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return "it overrides step, so what its steps are is not known"
    if config.get("prediction_type") in PREDICTIONS:
        return _predicts(config["prediction_type"])
    if not hasattr(scheduler, "sigmas"):
        return "it has no sigmas, so it does not follow a flow-matching velocity"
    return "it is not known to take one deterministic step of a velocity per transformer step"


def _predicts(prediction: str | None) -> str:
    return f"its prediction_type is {prediction!r}, not a flow-matching velocity"


def _refusal(scheduler: Any, problem: str) -> PipelineError:
    return PipelineError("scheduler", type(scheduler).__name__, problem, SET_EULER)
