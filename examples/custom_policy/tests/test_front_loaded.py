"""The policy keeps every promise of a policy, and is what it says it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from otcache_front_loaded import (
    FrontLoadedCalibrator,
    FrontLoadedOptions,
    FrontLoadedParameters,
    FrontLoadedPolicy,
)
from otcache_policies.testing import PolicyConformance

from otcache_plugin.plugins import ArgumentError, BudgetError, Schedule


class TestFrontLoadedPolicy(PolicyConformance):
    def make_policy(self, num_inference_steps: int) -> FrontLoadedPolicy:
        return FrontLoadedPolicy(num_inference_steps)


@pytest.mark.parametrize("budget", [5, 10, 25])
def test_gaps_never_shrink(budget: int) -> None:
    gaps = FrontLoadedPolicy(50).schedule(budget).gaps
    assert list(gaps) == sorted(gaps)
    assert gaps[0] < gaps[-1]


def test_by_hand() -> None:
    # 9 * (i / 3) ** 2 = 0, 1, 4, 9
    assert FrontLoadedPolicy(10, power=2).schedule(4).computed_steps == (0, 1, 4, 9)


class Context:
    """Stands in for measured values: a schedule loses its distance to that of a power."""

    num_inference_steps, usual_budget = 50, 15

    def __init__(self, power: float) -> None:
        self.policy = FrontLoadedPolicy(50, power)
        self.stages: list[tuple[str, int]] = []

    def start(self, stage: str, schedules: int) -> None:
        self.stages.append((stage, schedules))

    def best(self, candidates: Sequence[Sequence[Schedule]]) -> int:
        return min(range(len(candidates)), key=lambda number: self._loss(candidates[number]))

    def _loss(self, schedules: Sequence[Schedule]) -> int:
        wanted = [self.policy.schedule(schedule.budget) for schedule in schedules]
        return sum(
            abs(own - its)
            for one, other in zip(schedules, wanted, strict=True)
            for own, its in zip(one.computed_steps, other.computed_steps, strict=True)
        )


@pytest.mark.parametrize("power", [0.75, 1.25, 2.0])
def test_the_best_power_is_chosen(power: float) -> None:
    context: Any = Context(power)
    found = FrontLoadedCalibrator().calibrate(FrontLoadedOptions(), context)
    assert FrontLoadedParameters.model_validate(found.parameters).power == power
    assert found.default_budget == 15
    assert context.stages == [("choosing the power", 6 * 3)]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"powers": ()}, ArgumentError, "powers=.*numbers above 0"),
        ({"powers": (1.0, -1.0)}, ArgumentError, "powers=.*numbers above 0"),
        ({"budgets": ()}, ArgumentError, "budgets=.*there is none"),
        ({"budgets": (8, 51)}, BudgetError, "51"),
    ],
)
def test_what_makes_no_schedules_is_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        FrontLoadedCalibrator().check(FrontLoadedOptions(**options), 50)
