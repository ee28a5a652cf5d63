"""What calibrators have in common that search the schedule of each budget on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

from otcache_policies import BudgetError, UniformPolicy
from pydantic import Field

from otcache_plugin.calibration.settings import BudgetsOrText, RecordedOptions
from otcache_plugin.parameters.searched import SearchedParameters
from otcache_plugin.plugins.calibrating import Calibrated, Calibrator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otcache_policies import Policy, Schedule, SearchedPolicy

    from otcache_plugin.plugins.calibrating import CalibrationContext


class SearchedOptions(RecordedOptions):
    """Which budgets are searched."""

    budgets: Annotated[
        BudgetsOrText,
        Field(description="Each is searched, and measured: 8,10,12,15 of 50 steps unless given."),
    ] = None

    def check(self, steps: int) -> None:
        """Refuse budgets that are none of so many steps, and a default that is not served."""
        super().check(steps)
        budgets = self.usual_budgets(steps)
        smallest, largest = budgets[0], budgets[-1]
        default = self.default_budget
        if default is not None and not smallest <= default <= largest and default != steps:
            problem = "not from the smallest to the largest budget that is searched"
            raise BudgetError("default_budget", default, problem, f"Use {smallest} … {largest}")


class SearchedCalibrator(Calibrator):
    """Searches budgets; the policy predicts between them."""

    def check(self, options: SearchedOptions, num_inference_steps: int) -> None:
        """Refuse options that fit neither each other nor the steps."""
        options.check(num_inference_steps)

    def evidence_budgets(
        self, options: SearchedOptions, num_inference_steps: int
    ) -> tuple[int, ...]:
        """Return the budgets that are searched."""
        return options.usual_budgets(num_inference_steps)

    def peer(self, name: str, policy: Policy) -> Callable[[int], Schedule]:
        """Return evenly spaced steps, which look back no further than the policy's do."""
        schedules = cast("SearchedPolicy", policy).schedules
        largest = max(look for each in schedules for look in each.look_backs)
        return UniformPolicy(policy.num_inference_steps, min(2, largest)).schedule


def calibrated(
    found: Sequence[Schedule],
    options: SearchedOptions,
    settings: Mapping[str, Any],
    context: CalibrationContext,
) -> Calibrated:
    """Return the part of a document of what was found.

    Args:
        found: by increasing budget.
        options: of the calibration.
        settings: what is to be known of the search.
        context: of the calibration.
    """
    budgets = tuple(schedule.budget for schedule in found)
    usual = min(max(context.usual_budget, budgets[0]), budgets[-1])
    return Calibrated(
        parameters=SearchedParameters.of(found).model_dump(),
        tables={},
        budgets=budgets,
        default_budget=options.default_budget or usual,
        settings=settings,
    )
