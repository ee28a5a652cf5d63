"""Thresholds of policies that decide: found by bisection, so that real runs come to a budget."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from otcache_policies import BudgetError, FieldError, UniformPolicy
from pydantic import Field

from otcache_plugin.calibration.settings import BudgetsOrText, RecordedOptions
from otcache_plugin.plugins.calibrating import Calibrated, Calibrator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from otcache_policies import AimingPolicy, Schedule

    from otcache_plugin.plugins.calibrating import CalibrationContext
    from otcache_plugin.plugins.costs import StageCost, Workload

    Parameters = Callable[[Sequence[tuple[int, float]]], Mapping[str, Any]]
    """From thresholds, each after its budget, to a policy's parameters."""

FINDING = "finding thresholds"

MOST_RUNS = 5
"""Of all pairs, for the threshold of one budget."""

CLOSE_ENOUGH = 0.25
"""Steps by which the mean of the pairs may miss a budget."""

USUAL_PAIRS = 16

SHARES = (8 / 50, 10 / 50, 12 / 50, 15 / 50, 20 / 50)
"""Of the steps, where thresholds are found and measured unless other budgets are asked for."""

_HALVINGS = 60


class ThresholdOptions(RecordedOptions):
    """How a policy is calibrated that decides by a threshold."""

    usual_shares = SHARES

    budgets: Annotated[
        BudgetsOrText,
        Field(description="Whose thresholds are found and measured: 8,10,12,15,20 of 50 steps."),
    ] = None


class ThresholdCalibrator(Calibrator):
    """Finds the thresholds of a policy; what else it has a subclass finds."""

    options = ThresholdOptions
    decides = True

    def check(self, options: ThresholdOptions, num_inference_steps: int) -> None:
        """Refuse budgets that are none of so many steps, and a default that is not among them."""
        options.check(num_inference_steps)
        budgets, default = options.usual_budgets(num_inference_steps), options.default_budget
        if default is not None and not budgets[0] <= default <= budgets[-1]:
            problem = "outside of the budgets whose thresholds are found"
            remedy = f"Use {budgets[0]} … {budgets[-1]}, or find the thresholds of others"
            raise BudgetError("default_budget", default, problem, remedy)

    def usual_pairs(self, options: ThresholdOptions) -> int:
        """Return few: what is found are a few numbers."""
        return USUAL_PAIRS

    def evidence_budgets(
        self, options: ThresholdOptions, num_inference_steps: int
    ) -> tuple[int, ...]:
        """Return the budgets whose thresholds are found."""
        return options.usual_budgets(num_inference_steps)

    def costs(self, options: ThresholdOptions, workload: Workload) -> Sequence[StageCost]:
        """Return the cost of watching the full runs, and of the runs that thresholds take."""
        budgets = options.usual_budgets(workload.num_inference_steps)
        return workload.watching, workload.decided(FINDING, MOST_RUNS, budgets)

    def found(
        self,
        options: ThresholdOptions,
        context: CalibrationContext,
        changes: NDArray[np.float64],
        parameters: Parameters,
    ) -> Calibrated:
        """Return what was found once the thresholds are, too.

        Args:
            options: of the calibration.
            context: what runs the policy.
            changes: of full runs, `(N, T - 2)`, as the policy sums them up.
            parameters: gives the policy's, of thresholds.
        """
        budgets = options.usual_budgets(context.num_inference_steps)
        thresholds, means = find_thresholds(context, budgets, changes, parameters)
        usual = min(max(context.usual_budget, budgets[0]), budgets[-1])
        return Calibrated(
            parameters=parameters(thresholds),
            tables={},
            budgets=budgets,
            default_budget=options.default_budget or usual,
            settings={"budgets": list(budgets), "mean_computed_steps": means},
        )

    def peer(self, name: str, policy: AimingPolicy[Any]) -> Callable[[int], Schedule]:
        """Return evenly spaced steps whose cached ones repeat the last velocity."""
        return UniformPolicy(policy.num_inference_steps).schedule


def find_thresholds(
    context: CalibrationContext,
    budgets: Sequence[int],
    changes: NDArray[np.float64],
    parameters: Parameters,
) -> tuple[list[tuple[int, float]], list[float]]:
    """Return a threshold for each budget, after it, and the mean steps that it came to.

    Cached steps change what is observed, so real runs are made. Where to begin the changes of full
    runs tell, as far as the runs for the budgets before have agreed with them.

    Raises:
        FieldError: no threshold comes near a budget, for nothing that is observed changes.
    """
    context.start_decided(FINDING, MOST_RUNS * len(budgets))
    measured: dict[float, float] = {}
    found: list[tuple[int, float]] = []
    means: list[float] = []
    excess = 0.0
    for budget in budgets:
        threshold = _simulated(changes, budget - excess)
        for _ in range(MOST_RUNS):
            if threshold not in measured:
                runs = context.decided(parameters([(budget, threshold)]), budget)
                measured[threshold] = float(runs.computed_steps.mean())
            if abs(measured[threshold] - budget) <= CLOSE_ENOUGH:
                break
            threshold = _next(measured, threshold, budget)
        best = min(measured, key=lambda each: abs(measured[each] - budget))
        excess = measured[best] - counted(changes, best)
        # Of two budgets that the same runs come nearest to, neither has the larger threshold.
        smallest = min([best, *(each for _, each in found)])
        found.append((budget, smallest))
        means.append(measured[best])
    return found, means


def counted(changes: NDArray[np.float64], threshold: float) -> float:
    """Return the mean computed steps of full runs' changes, both ends of a run among them."""
    total = np.zeros(len(changes))
    computed = np.full(len(changes), 2)
    for step in changes.T:
        total = total + np.maximum(step, 0.0)
        reached = ~(total < threshold)
        computed += reached
        total[reached] = 0.0
    return float(computed.mean())


def _simulated(changes: NDArray[np.float64], budget: float) -> float:
    """Return the threshold at which full runs' changes come to a budget, by bisection."""
    most = float(np.maximum(changes, 0.0).sum(axis=1).max())
    if not (math.isfinite(most) and most > 0):
        problem = "nothing that is observed changes, or not by a finite number"
        raise FieldError("changes", most, problem, "Use a policy that gives a schedule")
    low, high = most * 1e-6, most
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if counted(changes, middle) > budget else (low, middle)
    return math.sqrt(low * high)


def _next(measured: Mapping[float, float], threshold: float, budget: int) -> float:
    """Return where to look next: between the nearest that came to more steps, and to fewer."""
    more = max((each for each in measured if measured[each] > budget), default=None)
    fewer = min((each for each in measured if measured[each] < budget), default=None)
    if more is None or fewer is None:
        return threshold * measured[threshold] / budget
    return math.sqrt(more * fewer)
