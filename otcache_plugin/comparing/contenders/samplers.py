"""Fewer steps: by the pipeline's own scheduler, or by a multistep solver of the same flow.

Nothing is cached. The solvers take the noise levels that the pipeline's Euler scheduler takes, with
its shift, so that a full run of theirs ends near its full run.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any, ClassVar

from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from otcache_plugin.comparing.methods import Variant
from otcache_plugin.pipelines.parts import find_scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otcache_plugin.comparing.methods import Bench

__all__ = ["DPMSolver", "FewerSteps", "UniPC"]

OTHER_LEVELS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas")
"""Options of the Euler scheduler that give it noise levels which the solvers have no option for."""

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


@dataclass(frozen=True)
class FewerSteps:
    """The pipeline as it is, asked for fewer steps."""

    name: ClassVar[str] = "fewer-steps"
    label: ClassVar[str] = "fewer steps"

    def refusal(self, bench: Bench) -> None:
        """See `Method`: every pipeline takes fewer steps."""
        return

    def variants(self, bench: Bench) -> list[Variant]:
        """See `Method`."""
        return [Variant(self.name, f"{budget} steps", budget) for budget in bench.budgets]

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        """See `Method`."""
        yield {"num_inference_steps": variant.budget}

    def calibration_steps(self, bench: Bench, variant: Variant) -> int:
        """See `Method`."""
        return 0


class UniPC(FewerSteps):
    """Fewer steps of the unified predictor-corrector of second order (arXiv 2302.04867)."""

    name: ClassVar[str] = "unipc"
    label: ClassVar[str] = "UniPC, fewer steps"

    def refusal(self, bench: Bench) -> str | None:  # type: ignore[override]
        """See `Method`: it has to know the noise levels of the pipeline's scheduler."""
        own = find_scheduler(bench.pipe)
        if type(own) is not FlowMatchEulerDiscreteScheduler:
            return (
                f"the pipeline's scheduler is a {type(own).__name__}, and only the noise levels of "
                "a FlowMatchEulerDiscreteScheduler are known to be had. Use fewer-steps"
            )
        if own.config.get("stochastic_sampling"):
            return "the pipeline's steps add noise, and those of the solver do not"
        for option in OTHER_LEVELS:
            if own.config.get(option):
                return f"the pipeline's scheduler has {option}, which the solver takes otherwise"
        return self._without(own.config)

    def _without(self, config: Mapping[str, Any]) -> str | None:
        """Return which option of the Euler scheduler this solver lacks."""
        return None

    @contextmanager
    def enabled(self, bench: Bench, variant: Variant) -> Iterator[Mapping[str, Any]]:
        """See `Method`."""
        own = find_scheduler(bench.pipe)
        bench.pipe.scheduler = self.solver(own.config)
        try:
            yield {"num_inference_steps": variant.budget}
        finally:
            bench.pipe.scheduler = own

    def solver(self, config: Mapping[str, Any]) -> Any:
        """Return the solver that takes the noise levels of an Euler scheduler."""
        return UniPCMultistepScheduler.from_config(_levels(config))


class DPMSolver(UniPC):
    """Fewer steps of DPM-Solver++ of second order (arXiv 2211.01095)."""

    name: ClassVar[str] = "dpm-solver"
    label: ClassVar[str] = "DPM-Solver++, fewer steps"

    def _without(self, config: Mapping[str, Any]) -> str | None:
        if config.get("shift_terminal"):
            return "the pipeline's scheduler has a shift_terminal, diffusers' DPM-Solver++ has none"
        if config.get("use_dynamic_shifting") and config.get("time_shift_type") != "exponential":
            return (
                "diffusers' DPM-Solver++ shifts exponentially, and the pipeline's scheduler "
                f"shifts by {config['time_shift_type']!r}"
            )
        return None

    def solver(self, config: Mapping[str, Any]) -> Any:
        """Return the solver that takes the noise levels of an Euler scheduler."""
        levels = _levels(config)
        if not config.get("use_dynamic_shifting"):
            # A pipeline may hand every scheduler the shift of its size, which this one refuses
            # unless it is dynamic: one that is the same for all sizes is handed what it has.
            levels |= {
                "use_dynamic_shifting": True,
                "time_shift_type": "exponential",
                "base_shift": log(config["shift"]),
                "max_shift": log(config["shift"]),
            }
        return DPMSolverMultistepScheduler.from_config(levels)


def _levels(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of an Euler scheduler as that of a solver of the same flow."""
    same = {name: value for name, value in config.items() if name != "shift"}
    return {**same, **FLOW, "flow_shift": config["shift"]}
