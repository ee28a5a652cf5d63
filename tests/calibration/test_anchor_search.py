"""The anchor search on losses whose optimum is known, and how gaps become steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from otcache_policies import Schedule, UniformPolicy

from otcache_plugin.calibration.anchor import (
    AnchorSearch,
    AnchorSettings,
    Trial,
    search_anchor,
    steps_of_gaps,
)
from otcache_plugin.errors import ArgumentError

STEPS, BUDGET = 30, 7
WARM_START = UniformPolicy(STEPS).schedule(BUDGET)
HIDDEN = [
    (0, 1, 3, 6, 12, 20, 29),
    (0, 8, 14, 19, 23, 27, 29),
    (0, 2, 4, 15, 24, 26, 29),
]


def ones(steps: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (len(steps) - 1)


def distance_to(hidden: tuple[int, ...]) -> Callable[[Schedule], float]:
    """The squared distance of the computed steps to hidden ones."""
    return lambda schedule: float(np.sum((np.array(schedule.computed_steps) - hidden) ** 2))


def search(
    loss: Callable[[Schedule], float], settings: AnchorSettings | None = None
) -> AnchorSearch:
    return search_anchor(WARM_START, loss, ones, settings or AnchorSettings())


@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
def test_the_optimum_is_found(hidden: tuple[int, ...]) -> None:
    loss = distance_to(hidden)
    found = search(loss)
    best = found.best(8)
    assert np.abs(np.array(best[0].schedule.computed_steps) - hidden).max() <= 1
    assert found.warm_start == Trial(WARM_START, loss(WARM_START))
    assert found.history[0] == found.warm_start
    assert len(found.history) <= AnchorSettings().trials
    for trial in found.history:
        assert trial.loss == loss(trial.schedule)
        assert (trial.schedule.budget, trial.schedule.num_inference_steps) == (BUDGET, STEPS)
    losses = [trial.loss for trial in best]
    assert losses == sorted(losses)
    assert losses[-1] <= found.warm_start.loss
    assert losses[0] == min(trial.loss for trial in found.history)
    assert len({trial.schedule for trial in best}) == len(best) == 8


def test_the_warm_start_is_what_remains_when_nothing_is_better() -> None:
    found = search(distance_to(WARM_START.computed_steps), AnchorSettings(trials=30))
    assert found.best(8) == [found.warm_start]


def test_a_loss_that_only_disturbs(rugged_loss: Callable[[Schedule], float]) -> None:
    found = search(rugged_loss, AnchorSettings(trials=60))
    best = found.best(100)
    better = {trial.schedule for trial in found.history if trial.loss <= found.warm_start.loss}
    assert {trial.schedule for trial in best} == better
    assert best[-1] == found.warm_start


def test_the_seed_determines_the_search(rugged_loss: Callable[[Schedule], float]) -> None:
    settings = AnchorSettings(trials=30, seed=3)
    assert search(rugged_loss, settings) == search(rugged_loss, settings)
    other = search(rugged_loss, AnchorSettings(trials=30, seed=4))
    assert other != search(rugged_loss, settings)


def test_every_trial_is_reported_and_gets_its_look_backs() -> None:
    trials = []

    def look_backs(steps: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(end - start for start, end in pairwise(steps))

    found = search_anchor(
        WARM_START,
        distance_to(HIDDEN[0]),
        look_backs,
        AnchorSettings(trials=12),
        lambda: trials.append(1),
    )
    assert len(trials) == len(found.history) == 12
    assert all(trial.schedule.look_backs == trial.schedule.gaps for trial in found.history)


def test_patience_ends_a_round() -> None:
    found = search(lambda schedule: 1.0, AnchorSettings(trials=90, patience=4, ranges=(9.0, 3.0)))
    assert len(found.history) == 2 * 4


@pytest.mark.parametrize("steps", [2, 30])
def test_two_steps_leave_nothing_to_search(steps: int) -> None:
    evaluated = []

    def loss(schedule: Schedule) -> float:
        evaluated.append(schedule)
        return 1.0

    warm_start = Schedule([0, steps - 1], steps)
    found = search_anchor(warm_start, loss, ones, AnchorSettings())
    assert evaluated == [warm_start]
    assert found.history == ()
    assert found.best(8) == [Trial(warm_start, 1.0)]


def test_three_steps_have_one_to_place() -> None:
    loss = distance_to((0, 4, 29))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = search_anchor(Schedule([0, 14, 29], 30), loss, ones, AnchorSettings(trials=60))
    assert abs(found.best(1)[0].schedule.computed_steps[1] - 4) <= 1


@pytest.mark.parametrize(("field", "value"), [("trials", -1), ("patience", 0)])
def test_settings_that_cannot_be_used(field: str, value: int) -> None:
    with pytest.raises(ArgumentError, match=f"{field}={value}: below"):
        AnchorSettings(**{field: value})


gaps_of_a_run = st.lists(st.floats(-20, 60), min_size=1, max_size=12).flatmap(
    lambda gaps: st.tuples(st.just(gaps), st.integers(len(gaps) + 1, 80))
)


@given(gaps_of_a_run)
@hypothesis_settings(deadline=None, max_examples=200)
def test_any_gaps_become_a_schedule(case: tuple[list[float], int]) -> None:
    gaps, total = case
    steps = steps_of_gaps(np.array(gaps), total)
    assert Schedule(steps, total).budget == len(gaps) + 1


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.sampled_from([1.0, 0.5, 3.0]))
@hypothesis_settings(deadline=None, max_examples=200)
def test_the_gaps_of_a_schedule_give_it_back(gaps: list[int], scale: float) -> None:
    schedule = Schedule.from_gaps(gaps)
    steps = steps_of_gaps(scale * np.array(gaps), schedule.num_inference_steps)
    assert steps == schedule.computed_steps
