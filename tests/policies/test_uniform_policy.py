"""The uniform policy: evenly spaced for every budget of every run."""

from __future__ import annotations

import numpy as np
import pytest
from otcache_policies import Schedule, ScheduleError, UniformPolicy


@pytest.mark.parametrize(
    ("total", "budget", "steps"),
    [
        (9, 5, (0, 2, 4, 6, 8)),
        (50, 8, (0, 7, 14, 21, 28, 35, 42, 49)),
        (50, 2, (0, 49)),
        (4, 3, (0, 2, 3)),  # 1.5 rounds to the even step
        (1, 1, (0,)),
    ],
)
def test_known_schedules(total: int, budget: int, steps: tuple[int, ...]) -> None:
    assert UniformPolicy(total).schedule(budget).computed_steps == steps


def test_valid_and_half_a_step_from_even_for_every_budget() -> None:
    for total in range(2, 101):
        policy = UniformPolicy(total)
        for budget in range(2, total + 1):
            schedule = policy.schedule(budget)
            assert schedule.budget == budget
            even = np.arange(budget) * (total - 1) / (budget - 1)
            assert np.abs(np.array(schedule.computed_steps) - even).max() <= 0.5 + 1e-9


def test_look_backs_only_where_steps_are_cached() -> None:
    assert UniformPolicy(4, look_back=3).schedule(3) == Schedule([0, 2, 3], 4, [3, 1])
    assert UniformPolicy(4, look_back=3).schedule(4) == Schedule.full(4)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": 5.0}, "num_inference_steps"),
        ({"num_inference_steps": 5, "look_back": 0}, "look_back"),
        ({"num_inference_steps": 5, "look_back": None}, "look_back"),
    ],
)
def test_refuses_other_arguments(arguments: dict[str, int], field: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        UniformPolicy(**arguments)
    assert caught.value.field == field
