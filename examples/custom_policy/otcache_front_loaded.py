"""The policy `front_loaded`: computed steps dense at the beginning, where images are decided.

How dense is best for a model is measured: `otcache calibrate MODEL --policy front_loaded`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from otcache_policies import project_sum
from pydantic import BaseModel, ConfigDict, Field

from otcache_plugin.plugins import (
    ArgumentError,
    Budgets,
    Calibrated,
    Calibrator,
    Part,
    Schedule,
    hookimpl,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.plugins import (
        CalibrationContext,
        PolicyRegistry,
        Sampling,
        StageCost,
        Tables,
        Workload,
    )

LOOK_BACK = 2
POWERS = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
BUDGETS = (8, 10, 15)
CHOOSING = "choosing the power"


@dataclass(frozen=True)
class FrontLoadedPolicy:
    """Step i of B lies at (i / (B - 1)) ** power of the run; power 1 is uniform.

    Args:
        num_inference_steps: steps of the run, T >= 1.
        power: how much denser the beginning is than the end.
    """

    num_inference_steps: int
    power: float = 1.5

    name: ClassVar[str] = "front_loaded"

    @property
    def budgets(self) -> Budgets:
        """2 … T."""
        return Budgets.up_to(self.num_inference_steps)

    def schedule(self, budget: int) -> Schedule:
        """Return the schedule; raise BudgetError when the budget is outside 2 … T."""
        budget = self.budgets.require(budget, self.name)
        last = self.num_inference_steps - 1
        positions = [last * (i / max(budget - 1, 1)) ** self.power for i in range(budget)]
        # Rounds the gaps, not the positions: every gap stays at least 1 and the ends stay put.
        steps = project_sum(positions)
        return Schedule(steps, self.num_inference_steps, [LOOK_BACK] * (budget - 1))


class FrontLoadedParameters(Part):
    """What a document of this policy holds.

    Attributes:
        power: the one that was best for the model.
    """

    power: Annotated[float, Field(gt=0)]


def make(
    parameters: FrontLoadedParameters, tables: Tables, sampling: Sampling
) -> FrontLoadedPolicy:
    """Make the policy of a document."""
    return FrontLoadedPolicy(sampling.num_inference_steps, parameters.power)


class FrontLoadedOptions(BaseModel):
    """What `--set` sets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    powers: Annotated[tuple[float, ...], Field(description="Powers that are tried.")] = POWERS
    budgets: Annotated[tuple[int, ...], Field(description="Budgets at which they are judged.")] = (
        BUDGETS
    )


class FrontLoadedCalibrator(Calibrator):
    """Tries every power, and takes the one whose schedules lose least."""

    options = FrontLoadedOptions

    def check(self, options: FrontLoadedOptions, num_inference_steps: int) -> None:
        """Refuse powers and budgets that make no schedules."""
        if not options.powers or min(options.powers) <= 0:
            problem, remedy = "not numbers above 0", "Give some, such as [1, 1.5, 2]"
            raise ArgumentError("powers", options.powers, problem, remedy)
        if not options.budgets:
            raise ArgumentError("budgets", (), "there is none", "Give some, such as [8, 10, 15]")
        for budget in options.budgets:
            FrontLoadedPolicy(num_inference_steps).budgets.require(budget, "front_loaded")

    def evidence_budgets(
        self, options: FrontLoadedOptions, num_inference_steps: int
    ) -> Sequence[int]:
        """Measure it where it was judged, and say so in the document."""
        return sorted(set(options.budgets))

    def costs(self, options: FrontLoadedOptions, workload: Workload) -> Sequence[StageCost]:
        """Return the cost of full runs, and of as many schedules as there are to try."""
        tried = workload.tried(CHOOSING, len(options.powers), options.budgets)
        return workload.full_runs, tried

    def calibrate(self, options: FrontLoadedOptions, context: CalibrationContext) -> Calibrated:
        """Measure the schedules of every power at every budget."""
        policies = [
            FrontLoadedPolicy(context.num_inference_steps, power) for power in options.powers
        ]
        context.start(CHOOSING, len(policies) * len(options.budgets))
        best = context.best(
            [[policy.schedule(budget) for budget in options.budgets] for policy in policies]
        )
        return Calibrated(
            parameters={"power": policies[best].power},
            tables={},
            budgets=(),
            default_budget=context.usual_budget,
            settings={"powers": list(options.powers), "budgets": list(options.budgets)},
        )


@hookimpl
def otcache_register_policies(registry: PolicyRegistry) -> None:
    """Register front_loaded."""
    registry.register_calibrated(
        FrontLoadedPolicy.name,
        parameters=FrontLoadedParameters,
        make=make,
        description="early steps dense, by a power that is calibrated",
        calibrator=FrontLoadedCalibrator,
    )
