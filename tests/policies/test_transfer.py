"""Transfer: schedules carried over to other numbers of steps and other noise schedules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otcache_policies import BudgetError, Schedule, ScheduleError, transfer
from otcache_policies.transport import inherited_look_backs

RandomSchedule = Callable[[np.random.Generator, int, int], Schedule]


def shifted_sigmas(total: int, shift: float) -> np.ndarray:
    """A flow-matching noise schedule of total + 1 sigmas, shifted towards noise."""
    sigmas = np.linspace(1, 0, total + 1)
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def test_transfer_to_the_same_run_returns_the_very_schedule() -> None:
    schedule, sigmas = Schedule([0, 1, 3, 8], 9, [1, 2, 5]), shifted_sigmas(9, 3.0)
    assert transfer(schedule, sigmas, sigmas, 4) is schedule
    assert transfer(schedule, sigmas, sigmas + 1e-8, 4) is schedule
    assert transfer(schedule, sigmas, sigmas, 5) is not schedule


def test_transfer_by_hand_to_fewer_steps() -> None:
    # Both noise schedules are even, so steps scale: 28 steps' worth of curve become 8.
    schedule = Schedule([0, 7, 14, 21, 28], 29, [2, 3, 4, 5])
    found = transfer(schedule, np.linspace(1, 0, 30), np.linspace(1, 0, 10), 5)
    assert found == Schedule([0, 2, 4, 6, 8], 9, [2, 3, 4, 5])


def test_transfer_by_hand_to_other_sigmas() -> None:
    """Computed at sigma 1.0, 0.5 and 0.1; the target has these at steps 0, 1 and 8.

    Its sigmas fall by 0.5 at once and then slowly, so the middle step moves from 5 to 1, and the
    look-back of the second segment goes with it. Gap 1 leaves nothing to look back from.
    """
    schedule = Schedule([0, 5, 9], 10, [2, 3])
    sigmas = np.linspace(1, 0, 11)
    target = np.array([1.0, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.0])
    assert transfer(schedule, sigmas, target, 3) == Schedule([0, 1, 8], 9, [1, 3])


def test_transfer_by_hand_to_a_run_that_begins_at_more_noise() -> None:
    """Computed at sigma 0.5, 0.4 and 0.1; the target has these at steps 5, 6 and 9.

    Stretched to begin at its first step, 5 … 6 … 9 are 0 … 2.25 … 9.
    """
    schedule = Schedule([0, 1, 4], 5, [1, 3])
    found = transfer(schedule, np.linspace(0.5, 0, 6), np.linspace(1, 0, 11), 3)
    assert found.computed_steps == (0, 2, 9)


def test_transfer_keeps_the_noise_levels() -> None:
    schedule = Schedule([0, 1, 3, 7, 14, 21, 28, 35, 42, 49], 50)
    sigmas, target = shifted_sigmas(50, 1.5), shifted_sigmas(50, 5.0)
    # The last step is the last step, whatever its sigma.
    before = list(schedule.computed_steps[:-1])
    after = list(transfer(schedule, sigmas, target, 10).computed_steps[:-1])
    assert np.abs(target[after] - sigmas[before]).max() < 0.02
    assert np.abs(target[before] - sigmas[before]).max() > 0.25


@settings(max_examples=150)
@given(
    total=st.integers(2, 60),
    target_total=st.integers(2, 60),
    shifts=st.tuples(st.floats(0.3, 8), st.floats(0.3, 8)),
    seed=st.integers(0, 2**32 - 1),
)
def test_transfer_gives_a_schedule_with_known_look_backs(
    random_schedule: RandomSchedule,
    total: int,
    target_total: int,
    shifts: tuple[float, float],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    schedule = random_schedule(rng, int(rng.integers(2, total + 1)), total)
    budget = int(rng.integers(2, target_total + 1))
    found = transfer(
        schedule,
        shifted_sigmas(total, shifts[0]),
        shifted_sigmas(target_total, shifts[1]),
        budget,
    )
    assert (found.budget, found.num_inference_steps) == (budget, target_total)
    assert set(found.look_backs) <= {1, *schedule.look_backs}


@pytest.mark.parametrize(
    ("sigmas", "target", "field"),
    [
        (np.linspace(1, 0, 9), np.linspace(1, 0, 10), "sigmas"),
        (np.linspace(0, 1, 10), np.linspace(1, 0, 10), "sigmas"),
        (np.linspace(1, 0, 10), np.linspace(0, 1, 10), "target_sigmas"),
        (np.linspace(1, 0, 10), [1.0], "target_sigmas"),
        (np.linspace(1, 0, 10), np.linspace(9, 8, 10), "target_sigmas"),
    ],
)
def test_transfer_refuses_other_sigmas(sigmas: object, target: object, field: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        transfer(Schedule([0, 4, 8], 9), sigmas, target, 3)
    assert caught.value.field == field


def test_transfer_refuses_other_budgets() -> None:
    sigmas = np.linspace(1, 0, 10)
    for budget in (1, 10, 3.0, True):
        with pytest.raises(BudgetError, match=r"budget=.*Use budget=2 … 9\."):
            transfer(Schedule([0, 4, 8], 9), sigmas, sigmas, budget)


def test_inherited_look_backs_by_hand() -> None:
    origin = Schedule([0, 4, 8], 9, [2, 5])
    # Midpoints 1, 4, 7 and 7.5: the first half, the second from its first step on, and a gap of 1.
    assert inherited_look_backs([0, 2, 6, 7, 8], origin, [1, 4, 6.5, 7.5]) == (2, 5, 1, 1)
