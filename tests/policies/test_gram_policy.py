"""The quadratic form against plain sums, and its minimisation against every schedule there is."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from gram_tables import every_schedule, smooth_table
from numpy.typing import NDArray
from otcache_policies import AdaptingPolicy, BudgetError, Schedule, UniformPolicy, gram
from otcache_policies.displacement import Candidates, euler_response, increments
from otcache_policies.errors import GramTableError
from otcache_policies.gram import GramPolicy, GramSettings, GramTable
from otcache_policies.gram_search import minima, optimise
from otcache_policies.quadratic_form import QuadraticForm
from otcache_policies.testing import PolicyConformance


class TestConformance(PolicyConformance):
    steps_to_try = (2, 12)

    def make_policy(self, num_inference_steps: int) -> GramPolicy:
        return GramPolicy(smooth_table(2, num_inference_steps, 0), GramSettings(max_look_back=2))


def test_the_error_is_the_sum_of_products() -> None:
    table = smooth_table(3, 7, 0)
    schedule = Schedule([0, 2, 6], 7, [1, 2])
    coefficients = increments(
        Candidates.of([schedule]), table.sigmas, euler_response(table.sigmas)
    )[0].sum(axis=0)
    for pair, error in enumerate(table.errors(schedule)):
        expected = sum(
            coefficients[s] * coefficients[t] * float(table.grams[pair, s, t])
            for s in range(7)
            for t in range(7)
        )
        assert error == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("damping", [0.0, 0.1, 1.0])
def test_damping_goes_from_the_whole_to_its_segments(damping: float) -> None:
    table = smooth_table(1, 7, 1)
    schedule = Schedule([0, 3, 6], 7, [1, 2])
    first, second = increments(
        Candidates.of([schedule]), table.sigmas, euler_response(table.sigmas)
    )[0]
    gram = table.grams[0].astype(np.float64)

    def square(vector: NDArray[np.float64]) -> float:
        return float(vector @ gram @ vector)

    expected = (1 - damping) * square(first + second) + damping * (square(first) + square(second))
    value = table.form(damping).values(Candidates.of([schedule]))
    assert value[0, 0] == pytest.approx(expected, rel=1e-9)


def test_gains_scale_what_segments_add() -> None:
    table = smooth_table(1, 7, 2)
    schedule = Schedule([0, 3, 6], 7, [1, 2])
    gains = np.array([9.0, 9.0, 9.0, 0.5, 9.0, 9.0, 0.25])
    first, second = increments(
        Candidates.of([schedule]), table.sigmas, euler_response(table.sigmas)
    )[0]
    left = 0.5 * first + 0.25 * second
    form = QuadraticForm(
        table.grams.astype(np.float64), table.sigmas, euler_response(table.sigmas), 0.0, gains
    )
    expected = left @ table.grams[0].astype(np.float64) @ left
    assert form.values(Candidates.of([schedule]))[0, 0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("budget", "damping"), [(3, 0.0), (4, 0.1), (5, 0.3)])
def test_the_best_of_all_schedules_is_found(seed: int, budget: int, damping: float) -> None:
    table = smooth_table(2, 8, seed)
    form = table.form(damping)
    everything = Candidates.of(every_schedule(8, budget, 3))
    smallest = form.pooled(everything).min()
    found = GramPolicy(table, GramSettings(damping, max_look_back=3)).schedule(budget)
    assert form.pooled(Candidates.of([found]))[0] == pytest.approx(smallest, abs=1e-9)


@pytest.mark.parametrize("largest", [1, 2])
def test_no_look_back_is_larger_than_allowed(largest: int) -> None:
    policy = GramPolicy(smooth_table(2, 12, 0), GramSettings(max_look_back=largest))
    for budget in range(2, 12):
        assert max(policy.schedule(budget).look_backs) <= largest


def test_other_noise_levels_are_combinations_of_the_recorded_ones() -> None:
    """Halfway between two recorded levels the velocity is the mean of the two."""
    sigmas = np.array([1.0, 0.5, 0.25, 0.0])
    velocities = np.array([[[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]]])
    table = GramTable(velocities @ velocities.transpose(0, 2, 1) / 2, sigmas)
    other = table.at(np.array([1.0, 0.75, 0.3125, 0.0]))
    expected = np.stack(
        [
            velocities[0, 0],
            (velocities[0, 0] + velocities[0, 1]) / 2,
            0.25 * velocities[0, 1] + 0.75 * velocities[0, 2],
        ]
    )
    np.testing.assert_allclose(other.grams[0], expected @ expected.T / 2, rtol=1e-6)


@pytest.mark.parametrize("total", [1, 9, 17, 40])
def test_velocities_linear_in_sigma_are_exact(total: int) -> None:
    """Also above the first recorded level and below the last one that has a velocity."""
    rng = np.random.default_rng(0)
    constant, slope = rng.normal(size=(2, 3, 1, 16))

    def grams(sigmas: NDArray[np.float64]) -> NDArray[np.float64]:
        velocities = constant + slope * sigmas[:-1, None]
        return np.asarray(velocities @ velocities.transpose(0, 2, 1) / 16)

    recorded, run = 0.95 * np.linspace(1, 0, 13) ** 2, np.linspace(1, 0, total + 1) ** 1.7
    table = GramTable(grams(recorded), recorded)
    np.testing.assert_allclose(table.at(run).grams, grams(run), rtol=1e-5, atol=1e-6)


def test_one_recorded_velocity_stands_for_all() -> None:
    table = GramTable(np.full((1, 1, 1), 4.0), np.array([0.8, 0.2]))
    np.testing.assert_array_equal(table.at(np.array([0.9, 0.5, 0.1])).grams, np.full((1, 2, 2), 4))


def test_two_recorded_velocities_span_a_line() -> None:
    """At three quarters of the way, above the first by half the way, and at the second."""
    velocities = np.array([[1.0, 2.0], [3.0, -2.0]])
    table = GramTable((velocities @ velocities.T)[None], np.array([1.0, 0.6, 0.0]))
    other = table.at(np.array([1.2, 0.7, 0.6, 0.1]))
    expected = np.array([[0.0, 4.0], [2.5, -1.0], [3.0, -2.0]])
    np.testing.assert_allclose(other.grams[0], expected @ expected.T, rtol=1e-6)


def test_a_response_is_copied_and_cannot_be_changed() -> None:
    given = np.ones(3)
    table = GramTable(np.ones((1, 3, 3)), np.linspace(1, 0, 4), given)
    given[0] = 9.0
    assert table.response is not None
    np.testing.assert_array_equal(table.response, np.ones(3))
    for array in (table.grams, table.sigmas, table.response):
        assert not array.flags.writeable


def test_the_recorded_noise_levels_give_the_table_again() -> None:
    table = smooth_table(2, 6, 3)
    np.testing.assert_allclose(table.at(table.sigmas).grams, table.grams, rtol=1e-5, atol=1e-7)


def test_threads_that_need_the_same_schedule_search_it_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy, searched = GramPolicy(smooth_table(2, 9, 7)), []

    def counted(*arguments: Any) -> Schedule:
        searched.append(arguments)
        return optimise(*arguments)

    monkeypatch.setattr(gram, "optimise", counted)
    sigmas, together = np.linspace(1, 0, 8), threading.Barrier(4)

    def ask(_: int) -> Schedule | None:
        together.wait()
        return policy.schedule_at(3, sigmas.copy(), np.diff(sigmas))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(searched) == 1
    assert all(schedule is found[0] for schedule in found)


@pytest.mark.parametrize("budget", [3, 4, 6])
def test_no_move_of_a_step_lowers_a_minimum(budget: int) -> None:
    """By the sum over pairs, each weighed by the inverse of its value at the given schedule."""
    form = smooth_table(3, 12, 2).form(0.03)
    near = optimise(form, budget, 3)
    weights = 1 / form.values(Candidates.of([near]))[0]
    found = minima(form, budget, 3, near)
    assert len(found) == len(set(found))
    pooled = form.pooled(Candidates.of(found))
    assert list(pooled) == sorted(pooled)
    for schedule in found:
        assert schedule.budget == budget
        own, *moved = form.values(Candidates.of([schedule, *moves_of(schedule, 3)])) @ weights
        assert min(moved) >= own * (1 - 1e-6)


def moves_of(schedule: Schedule, max_look_back: int) -> list[Schedule]:
    """Every schedule with one step anywhere between its neighbours and any look-backs beside it."""
    found = []
    for number, (begin, end) in enumerate(
        zip(schedule.computed_steps, schedule.computed_steps[2:], strict=False), start=1
    ):
        for step, *two in itertools.product(
            range(begin + 1, end), *2 * [range(1, max_look_back + 1)]
        ):
            steps, look_backs = list(schedule.computed_steps), list(schedule.look_backs)
            steps[number] = step
            look_backs[number - 1 : number + 1] = two
            gaps = np.diff(steps)
            own = np.where(gaps > 1, look_backs, 1).tolist()
            found.append(Schedule(steps, schedule.num_inference_steps, own))
    return found


def test_where_an_error_is_zero_there_is_one_minimum() -> None:
    form = GramTable(np.zeros((1, 5, 5)), np.linspace(1, 0, 6)).form(0.0)
    near = Schedule([0, 2, 4], 5, [1, 1])
    assert minima(form, 3, 2, near) == [near]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"grams": np.ones((2, 3, 4))}, "grams"),
        ({"grams": np.full((1, 3, 3), np.nan)}, "grams"),
        ({"grams": np.triu(np.ones((1, 3, 3)))}, "grams"),
        ({"grams": np.ones((1, 3, 3)) + np.triu(np.full((3, 3), 1e-3))}, "grams"),
        ({"sigmas": np.array([1.0, 0.5, 0.0])}, "sigmas"),
        ({"response": np.ones(4)}, "response"),
        ({"response": np.array([1.0, np.inf, 0.0])}, "response"),
    ],
)
def test_what_is_no_table(changes: dict[str, NDArray[np.float64]], field: str) -> None:
    valid = {"grams": np.ones((1, 3, 3)), "sigmas": np.linspace(1, 0, 4)}
    with pytest.raises(GramTableError) as caught:
        GramTable(**{**valid, **changes})
    assert caught.value.field == field


def test_what_is_not_finite_is_recorded_anew() -> None:
    with pytest.raises(GramTableError, match=r"not finite everywhere\. Record anew"):
        GramTable(np.full((1, 3, 3), np.inf), np.linspace(1, 0, 4))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"damping": -0.1}, "damping"),
        ({"damping": 1.5}, "damping"),
        ({"damping": float("nan")}, "damping"),
        ({"damping": "0.1"}, "damping"),
        ({"damping": None}, "damping"),
        ({"damping": True}, "damping"),
        ({"max_look_back": 0}, "max_look_back"),
    ],
)
def test_what_are_no_settings(settings: dict[str, float], field: str) -> None:
    with pytest.raises(GramTableError) as caught:
        GramSettings(**settings)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_another_solver_cannot_change_its_noise_levels() -> None:
    table = GramTable(np.ones((1, 3, 3)), np.linspace(1, 0, 4), np.ones(3))
    with pytest.raises(GramTableError, match="Record runs with these noise levels"):
        table.at(np.linspace(1, 0, 6))


def test_another_solver_can_with_its_response() -> None:
    """The velocities are the model's; what the solver makes of them is said by whoever runs it."""
    euler = smooth_table(1, 6, 4)
    solver = GramTable(euler.grams, euler.sigmas, np.arange(6.0))
    sigmas, response = np.linspace(1, 0, 5), np.array([0.1, 0.4, 0.2, 0.3])
    other = solver.at(sigmas, response)
    np.testing.assert_array_equal(other.grams, euler.at(sigmas).grams)
    np.testing.assert_array_equal(other.response, response)


def test_noise_levels_beyond_the_recorded_are_none() -> None:
    """A run may begin above the first recorded level by its distance to the second, no more."""
    table = GramTable(np.ones((1, 3, 3)), np.array([0.8, 0.6, 0.3, 0.1]))
    table.at(np.array([1.0, 0.5, 0.1, 0.0]))
    for sigmas in ([1.01, 0.5, 0.1, 0.0], [0.8, 0.5, 0.09, 0.0]):
        assert not table.covers(np.array(sigmas))
        with pytest.raises(GramTableError, match="beyond the recorded"):
            table.at(np.array(sigmas))
        assert GramPolicy(table).schedule_at(2, np.array(sigmas), np.diff(sigmas)) is None


def test_at_the_recorded_noise_levels_schedules_are_the_known_ones() -> None:
    table = smooth_table(2, 9, 5)
    known = Schedule([0, 1, 2, 8], 9, [1, 1, 2])
    policy = GramPolicy(table, known=(known,))
    assert isinstance(policy, AdaptingPolicy)
    sigmas = table.sigmas + 1e-8
    assert policy.schedule_at(4, sigmas, np.diff(sigmas)) is known
    for budget in (2, 3, 5, 9):
        assert policy.schedule_at(budget, sigmas, np.diff(sigmas)) == policy.schedule(budget)


def test_a_run_of_other_steps_has_the_smallest_form_of_its_own() -> None:
    policy = GramPolicy(smooth_table(2, 13, 6), GramSettings(0.0, 3))
    sigmas = np.linspace(1, 0, 9) ** 1.3
    form = policy.table.at(sigmas).form(0.0)
    for budget in (3, 4):
        smallest = form.pooled(Candidates.of(every_schedule(8, budget, 3))).min()
        found = policy.schedule_at(budget, sigmas, np.diff(sigmas))
        assert found is not None
        assert form.pooled(Candidates.of([found]))[0] == pytest.approx(smallest, abs=1e-9)
        assert policy.schedule_at(budget, sigmas.copy(), np.diff(sigmas)) is found
    assert policy.schedule_at(8, sigmas, np.diff(sigmas)) == Schedule.full(8)
    with pytest.raises(BudgetError, match="Use budget=2 … 8"):
        policy.schedule_at(9, sigmas, np.diff(sigmas))


def test_under_another_solver_only_the_last_velocity_stands_in() -> None:
    policy = GramPolicy(smooth_table(2, 13, 6), GramSettings(0.0, 3))
    sigmas = np.linspace(1, 0, 9)
    for share, largest in ((1.0, 2), (1.5, 1)):
        found = policy.schedule_at(3, sigmas, share * np.diff(sigmas))
        assert found is not None
        assert max(found.look_backs) == largest


def test_runs_without_any_error_have_an_even_schedule() -> None:
    """Velocities that are all 0 leave nothing to lower, and no logarithm to take."""
    table = GramTable(np.zeros((2, 6, 6)), np.linspace(1, 0, 7))
    schedule = GramPolicy(table).schedule(3)
    assert schedule.computed_steps == UniformPolicy(6).schedule(3).computed_steps
    assert table.errors(schedule).tolist() == [0.0, 0.0]


def test_a_single_step_has_no_segment_and_no_error() -> None:
    table = GramTable(np.ones((2, 1, 1)), np.array([1.0, 0.0]))
    assert table.errors(Schedule.full(1)).tolist() == [0.0, 0.0]
    assert GramPolicy(table).schedule(1) == Schedule.full(1)


def test_a_schedule_without_any_error_is_found() -> None:
    """Only the first velocity is not 0: nothing is wrong once the second one is computed."""
    grams = np.zeros((1, 6, 6))
    grams[0, 0, 0] = 1.0
    table = GramTable(grams, np.linspace(1, 0, 7))
    assert GramPolicy(table, GramSettings(0.0, 1)).schedule(3).computed_steps == (0, 1, 5)


def test_schedules_of_other_runs_are_refused() -> None:
    table = smooth_table(1, 6, 0)
    other = Schedule.full(7)
    with pytest.raises(GramTableError, match="not of the table's 6 steps"):
        table.errors(other)
    with pytest.raises(GramTableError, match="not of the table's 6 steps"):
        GramPolicy(table, known=(other,))
