"""Calibrating the policy of Gram matrices: full runs are recorded, and nothing else is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from otcache_policies import GramPolicy, GramSettings, UniformPolicy

from otcache_plugin.calibration.errors import refuse_unmeasured
from otcache_plugin.calibration.settings import MAX_LOOK_BACK, GramOptions
from otcache_plugin.parameters.gram import GramParameters
from otcache_plugin.parameters.gram_tables import tables_of
from otcache_plugin.plugins.calibrating import Calibrated, Calibrator
from otcache_plugin.plugins.costs import StageCost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otcache_policies import Policy, Schedule

    from otcache_plugin.plugins.calibrating import CalibrationContext
    from otcache_plugin.plugins.costs import Workload

MINIMISING = "minimising the quadratic form"


class GramCalibrator(Calibrator):
    """Finds schedules from the recording alone, without the model."""

    options = GramOptions

    def check(self, options: GramOptions, num_inference_steps: int) -> None:
        """Refuse budgets and a damping that cannot be."""
        options.check(num_inference_steps)
        GramSettings(options.damping)

    def check_executor(self, options: GramOptions, executor: str) -> None:
        """Refuse every executor but that of the velocities that are recorded."""
        refuse_unmeasured(executor, "Calibrate otcache or direct")

    def evidence_budgets(self, options: GramOptions, num_inference_steps: int) -> tuple[int, ...]:
        """Return the budgets whose schedules were found."""
        return options.usual_budgets(num_inference_steps)

    def costs(self, options: GramOptions, workload: Workload) -> Sequence[StageCost]:
        """Return the cost of recording, and of minimising the form at every budget."""
        budgets = options.usual_budgets(workload.num_inference_steps)
        return (workload.recording, StageCost.without_model(MINIMISING, len(budgets)))

    def calibrate(self, options: GramOptions, context: CalibrationContext) -> Calibrated:
        """Record the full runs, and minimise their quadratic form at every budget."""
        table = context.grams()
        # Where the solver is not Euler's only the last velocity can stand in.
        largest = MAX_LOOK_BACK if table.response is None else 1
        policy = GramPolicy(table, GramSettings(options.damping, largest))
        budgets = options.usual_budgets(context.num_inference_steps)
        context.start_search(MINIMISING, len(budgets))
        found = []
        for budget in budgets:
            found.append(policy.schedule(budget))
            context.advance()
        return Calibrated(
            parameters=GramParameters.of(policy.settings, found).model_dump(),
            tables=tables_of(table),
            budgets=budgets,
            default_budget=options.default_budget or context.usual_budget,
            settings={"budgets": list(budgets)},
        )

    def peer(self, name: str, policy: Policy) -> Callable[[int], Schedule]:
        """Return evenly spaced steps, which look back no further than the policy may."""
        largest = cast("GramPolicy", policy).settings.max_look_back
        return UniformPolicy(policy.num_inference_steps, min(2, largest)).schedule
