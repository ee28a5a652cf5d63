"""Schedules valued through the states of a run, against the sums over coefficients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gram_tables import every_schedule, smooth_table
from otcache_policies import Schedule
from otcache_policies.beam_search import beam_search
from otcache_policies.displacement import Candidates
from otcache_policies.gram_search import optimise
from otcache_policies.quadratic_form import QuadraticForm
from otcache_policies.state_form import StateForm
from otcache_policies.step_moves import descend, moves

TOTAL = 12


def one_pair(damping: float, *, gains: bool = False, seed: int = 0) -> QuadraticForm:
    """Return a form of one pair whose noise levels are uneven."""
    form = smooth_table(1, TOTAL, seed, even=False).form(damping)
    rng = np.random.default_rng(seed)
    return replace(form, gains=rng.uniform(0.2, 1.2, TOTAL) if gains else None)


def random_candidates(count: int, budget: int, max_look_back: int) -> Candidates:
    rng = np.random.default_rng(budget)
    inner = [rng.choice(np.arange(1, TOTAL - 1), budget - 2, replace=False) for _ in range(count)]
    steps = np.array([[0, *sorted(each.tolist()), TOTAL - 1] for each in inner])
    return Candidates(steps, rng.integers(1, max_look_back + 1, (count, budget - 1)), TOTAL)


@pytest.mark.parametrize("gains", [False, True])
@pytest.mark.parametrize("damping", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("budget", "max_look_back"), [(2, 4), (5, 1), (6, 3), (9, 6)])
def test_values_are_those_of_the_coefficients(
    budget: int, max_look_back: int, damping: float, gains: bool
) -> None:
    form = one_pair(damping, gains=gains)
    states = StateForm.of(form, max_look_back)
    candidates = random_candidates(20, budget, max_look_back)
    found = [states.value(candidates.schedule(index)) for index in range(20)]
    expected = form.values(candidates)[:, 0]
    # What is left out of the matrix is 1e-6 of it and less.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_directions_of_less_than_a_millionth_are_left_out() -> None:
    grams = 100 * np.diag([1.0, 1e-3, 2e-6, 0.5e-6, 0.0])[None]
    form = QuadraticForm(grams, np.linspace(1, 0, 6), np.full(5, -0.2))
    assert StateForm.of(form, 2).fixed.shape == (5, 5, 2, 3)


@pytest.mark.parametrize("gains", [False, True])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_moves_are_all_schedules_with_one_step_elsewhere(damping: float, gains: bool) -> None:
    """With its two look-backs; the lowest first, and each whose steps differ once."""
    states = StateForm.of(one_pair(damping, gains=gains), 2)
    start = random_candidates(1, 5, 2).schedule(0)
    expected = set()
    for schedule in every_schedule(TOTAL, 5, 2):
        differs = [
            number
            for number in range(5)
            if schedule.computed_steps[number] != start.computed_steps[number]
        ]
        for number in differs if differs else range(1, 4):
            beside = {number - 1, number}
            if len(differs) < 2 and all(
                segment in beside or schedule.look_backs[segment] == start.look_backs[segment]
                for segment in range(4)
            ):
                expected.add(schedule)
    near = moves(states, start, most=10_000)
    found = [near.schedule(index) for index in range(len(near))]
    assert set(found) == expected
    elsewhere = [each for each in found if each.computed_steps != start.computed_steps]
    assert len(elsewhere) == len(set(elsewhere))
    values = [states.value(schedule) for schedule in found]
    assert values == pytest.approx(sorted(values))
    few = moves(states, start, most=7)
    assert [few.schedule(index) for index in range(7)] == found[:7]


def test_a_descent_ends_where_no_move_is_lower() -> None:
    states = StateForm.of(one_pair(0.1), 3)
    start = random_candidates(1, 6, 3).schedule(0)
    end = descend(states, start)
    value = states.value(end)
    assert value < states.value(start)
    near = moves(states, end, most=1)
    assert states.value(near.schedule(0)) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("budget", [2, 3, 6, 11, 12])
def test_a_beam_finds_schedules_of_the_budget(budget: int) -> None:
    states = StateForm.of(one_pair(0.1), 3)
    found = beam_search(states, budget)
    assert {(schedule.budget, schedule.num_inference_steps) for schedule in found} == {
        (budget, TOTAL)
    }
    values = [states.value(schedule) for schedule in found]
    assert values == pytest.approx(sorted(values), abs=1e-12)
    segments = [segment for schedule in found for segment in schedule.segments]
    assert {each.look_back for each in segments if each.end == each.start + 1} <= {1}


@pytest.mark.parametrize(("changing", "longest"), [(3, 13), (4, 15)])
def test_no_gap_of_a_beam_is_longer_than_three_mean_ones(changing: int, longest: int) -> None:
    """Of 20 steps and 5 computed ones that is 15.

    Velocities that no longer change from step 3 on would have a gap of 16, to be exact.
    """
    velocities = np.random.default_rng(0).normal(size=(20, 8))
    velocities[changing:] = velocities[changing]
    grams = (velocities @ velocities.T)[None]
    form = QuadraticForm(grams, np.linspace(1, 0, 21), np.full(20, -0.05), 0.1)
    assert max(beam_search(StateForm.of(form, 2), 5)[0].gaps) == longest


@pytest.mark.parametrize("damping", [0.0, 0.3, 1.0])
def test_a_beam_leaves_nothing_out_where_there_is_nothing_to_choose_before(damping: float) -> None:
    """Without look-backs, one of three steps is chosen: all of its places are tried."""
    states = StateForm.of(one_pair(damping), 1)
    schedules = [Schedule([0, step, TOTAL - 1], TOTAL) for step in range(1, TOTAL - 1)]
    ranked = sorted(schedules, key=states.value)
    found = beam_search(states, 3)
    assert found == ranked[: len(found)]
    assert len(found) > 1


def test_a_beam_of_one_segment_has_its_best_look_back() -> None:
    for seed in range(8):
        states = StateForm.of(one_pair(0.1, seed=seed), 4)
        schedules = [Schedule([0, TOTAL - 1], TOTAL, [look_back]) for look_back in range(1, 5)]
        assert beam_search(states, 2) == [min(schedules, key=states.value)]


def test_of_a_hundred_schedules_99_are_behind_the_beams() -> None:
    form = one_pair(0.1)
    values = form.values(Candidates.of(every_schedule(TOTAL, 5, 3)))
    states = StateForm.of(form, 3)
    best = states.value(beam_search(states, 5)[0])
    assert (values < best).mean() < 0.01


def test_a_pair_of_its_own_gains_is_valued_by_them() -> None:
    table = smooth_table(3, TOTAL, 1)
    rng = np.random.default_rng(1)
    gains = rng.uniform(0.2, 1.2, (3, TOTAL))
    candidates = random_candidates(5, 6, 3)
    together = replace(table.form(0.2), gains=gains).values(candidates)
    for pair in range(3):
        alone = replace(table.form(0.2), grams=table.grams[pair : pair + 1], gains=gains[pair])
        np.testing.assert_allclose(together[:, [pair]], alone.values(candidates), rtol=1e-6)


def test_the_weighted_form_of_gains_that_are_proportional_is_exact() -> None:
    """Pairs whose gains differ by a factor: the factor's square is in their matrices."""
    table = smooth_table(3, TOTAL, 2)
    usual = np.linspace(0.3, 1.0, TOTAL)
    form = replace(table.form(0.1), gains=np.array([[0.5], [1.0], [1.5]]) * usual)
    candidates = random_candidates(8, 6, 3)
    weights = np.array([1.0, 2.0, 5.0])
    expected = form.values(candidates) @ weights / weights.sum()
    np.testing.assert_allclose(form.weighted(weights).values(candidates)[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_all_schedules_is_found_with_gains_of_each_pair(seed: int) -> None:
    table = smooth_table(3, 8, seed)
    gains = np.random.default_rng(seed).uniform(0.3, 1.0, (3, 1)) * np.linspace(0.4, 1.0, 8)
    form = replace(table.form(0.1), gains=gains)
    smallest = form.pooled(Candidates.of(every_schedule(8, 4, 3))).min()
    found = optimise(form, 4, 3)
    assert form.pooled(Candidates.of([found]))[0] == pytest.approx(smallest, abs=1e-9)


def test_nothing_worse_than_a_start_is_returned() -> None:
    """The best of 8 steps, which nothing can be better than, comes back from the search."""
    form = smooth_table(2, 8, 16).form(0.1)
    everything = every_schedule(8, 6, 3)
    values = form.pooled(Candidates.of(everything))
    best = everything[int(values.argmin())]
    found = optimise(form, 6, 3, starts=[best])
    assert form.pooled(Candidates.of([found]))[0] == pytest.approx(values.min(), abs=1e-9)


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_nothing_worse_than_what_a_more_damped_beam_leads_to_is_returned(seed: int) -> None:
    """Here the beams of the form's own damping lead to worse."""
    form = smooth_table(1, 24, seed, even=False).form(0.1)
    states = StateForm.of(form, 3)
    damped = beam_search(replace(states, damping=0.1 + 0.2), 6)[0]
    expected = states.value(descend(states, damped))
    assert states.value(optimise(form, 6, 3)) <= expected * (1 + 1e-9)


def test_every_step_computed_has_no_error_to_lower() -> None:
    assert optimise(smooth_table(2, 8, 0).form(0.1), 8, 3).gaps == (1,) * 7


@pytest.mark.parametrize("total", [2, 3, 4, 5, 6])
def test_the_best_of_all_schedules_of_short_runs_is_found(total: int) -> None:
    form = smooth_table(2, total, total).form(0.1)
    for budget in range(2, total):
        smallest = form.pooled(Candidates.of(every_schedule(total, budget, 6))).min()
        found = optimise(form, budget, 6)
        assert form.pooled(Candidates.of([found]))[0] == pytest.approx(smallest, abs=1e-9)
