"""What a calibration of ReCache is asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from otcache_policies import BudgetError
from pydantic import Field

from otcache_plugin.calibration.learning.reinforce import Training
from otcache_plugin.calibration.settings import MAX_LOOK_BACK, BudgetsOrText, RecordedOptions
from otcache_plugin.errors import ArgumentError

SMALLEST_SHARE, LARGEST_SHARE = 6 / 50, 25 / 50
"""Of the steps: what a network is trained for unless told otherwise."""

FORM_BUDGETS, FORM_SCHEDULES, FORM_ENTROPY = 4, 16, 0.02
"""Of an iteration on the quadratic form, where a schedule costs no run."""

FEWEST_STEPS = 5
"""Of a run with two budgets between all inner steps and none."""

Count = Annotated[int, Field(ge=0, le=100_000)]
LookBack = Annotated[int, Field(ge=1, le=MAX_LOOK_BACK)]


class ReCacheOptions(RecordedOptions):
    """How ReCache is calibrated."""

    smallest_budget: Annotated[
        int | None, Field(description="Smallest budget that is trained for: 6 of 50 steps.")
    ] = None
    largest_budget: Annotated[int | None, Field(description="Largest one: 25 of 50 steps.")] = None
    budgets: Annotated[
        BudgetsOrText,
        Field(description="Where networks are compared, and measured: 8,10,12,15 of 50 steps."),
    ] = None
    pretraining: Annotated[
        Count,
        Field(description="Iterations on the quadratic form, without runs; 0 is the paper's way."),
    ] = 600
    iterations: Annotated[Count, Field(description="Iterations on real runs; 0 for none.")] = 60
    budgets_at_once: Annotated[
        int, Field(ge=1, le=1000, description="Budgets that are drawn for in such an iteration.")
    ] = 4
    schedules: Annotated[
        int, Field(ge=2, le=1000, description="Schedules that are drawn of each of them.")
    ] = 8
    pairs_per_run: Annotated[
        int, Field(ge=1, description="Pairs that a drawn schedule runs on.")
    ] = 4
    learning_rate: Annotated[float, Field(gt=0, le=1, description="Of both trainings.")] = 0.01
    entropy: Annotated[
        float,
        Field(
            ge=0,
            description="On real runs: what a nat of entropy is worth, in standard deviations of "
            "the losses.",
        ),
    ] = 0.05
    look_back: Annotated[
        LookBack | Literal["edges"],
        Field(description="Of every segment: 1 to 6, or edges: each segment's best of the table."),
    ] = 2
    reward: Annotated[
        str | None, Field(description="A metric that is rewarded besides, such as of quality.")
    ] = None
    reward_weight: Annotated[
        float, Field(gt=0, description="Its coefficient beside the calibration's metric.")
    ] = 1.0

    def check(self, steps: int) -> None:
        """Refuse what nothing can be trained with.

        Raises:
            BudgetError: a budget is none of those that a network can be trained for.
            ArgumentError: there is nothing to train on, or too few steps.
        """
        super().check(steps)
        if steps < FEWEST_STEPS:
            problem = f"fewer than {FEWEST_STEPS}, and there is nothing to learn"
            raise ArgumentError("num_inference_steps", steps, problem, "Take more steps")
        trained = self.trained_budgets(steps)
        if not 3 <= trained.start < trained.stop - 1 < steps:
            field = "largest_budget" if trained.start >= 3 else "smallest_budget"
            problem = "not from 3 to below the steps, or not above the smallest"
            remedy = f"Use 3 <= smallest_budget < largest_budget < {steps}"
            raise BudgetError(field, getattr(self, field), problem, remedy)
        for budget in (*self.usual_budgets(steps), *filter(None, [self.default_budget])):
            if budget not in trained and budget != steps:
                problem = f"the network is trained for {trained.start} … {trained.stop - 1}"
                raise BudgetError("budgets", budget, problem, "Use those, or train for more")
        if not self.pretraining and not self.iterations:
            remedy = "Leave one of pretraining and iterations above 0"
            raise ArgumentError("iterations", 0, "there is nothing to train on", remedy)

    def trained_budgets(self, steps: int) -> range:
        """Return the budgets that the network is trained for."""
        smallest, largest = self.smallest_budget, self.largest_budget
        if smallest is None:
            smallest = max(3, round(steps * SMALLEST_SHARE))
        if largest is None:
            largest = max(smallest + 1, round(steps * LARGEST_SHARE))
        return range(smallest, largest + 1)

    def usual_budgets(self, steps: int) -> tuple[int, ...]:
        """Return the budgets that were given, or the usual ones among those trained for."""
        usual = super().usual_budgets(steps)
        if self.budgets is not None:
            return usual
        trained = self.trained_budgets(steps)
        return tuple(each for each in usual if each in trained) or (trained.start,)

    @property
    def on_the_form(self) -> Training:
        """How a network is trained on the quadratic form."""
        return Training(
            self.pretraining, FORM_BUDGETS, FORM_SCHEDULES, self.learning_rate, FORM_ENTROPY
        )

    @property
    def on_runs(self) -> Training:
        """How it is trained on real runs."""
        return Training(
            self.iterations,
            self.budgets_at_once,
            self.schedules,
            self.learning_rate,
            self.entropy,
        )

    @property
    def rewarded(self) -> dict[str, float]:
        """Coefficients of what is rewarded besides the calibration's metric, by its name."""
        return {} if self.reward is None else {self.reward: self.reward_weight}
