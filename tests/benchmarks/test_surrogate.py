"""A surrogate of real errors: as the form where that is right, better where it errs smoothly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from otcache_policies import RealRun, Schedule
from otcache_policies.displacement import Candidates
from otcache_policies.quadratic_form import QuadraticForm
from scipy.stats import spearmanr

from benchmarks.rounds.surrogate import fit_surrogate

STEPS, PAIRS, BUDGET = 20, 6, 6
SIGMAS = np.linspace(1.0, 0.0, STEPS + 1) ** 1.3

Floats = NDArray[np.float64]


def smooth_form() -> QuadraticForm:
    """Of velocities that change smoothly from step to step, with gains that fall."""
    rng = np.random.default_rng(3)
    waves = np.arange(6)[:, None]
    phases = rng.uniform(0, 2 * np.pi, (PAIRS, 6, 1))
    shapes = np.cos(np.pi * waves * np.linspace(0, 1, STEPS) + phases) / (1 + waves)
    velocities = np.einsum("pwt,pwe->pte", shapes, rng.normal(size=(PAIRS, 6, 30)))
    grams = velocities @ velocities.transpose(0, 2, 1) / 30
    return QuadraticForm(grams, SIGMAS, np.diff(SIGMAS), 0.03, np.linspace(1.0, 0.5, STEPS))


FORM = smooth_form()


def drawn(count: int, seed: int, budget: int = BUDGET) -> list[Schedule]:
    """Different schedules of a budget."""
    rng = np.random.default_rng(seed)
    found: dict[Schedule, None] = {}
    while len(found) < count:
        inner = np.sort(rng.choice(np.arange(1, STEPS - 1), budget - 2, replace=False))
        steps = [0, *inner.tolist(), STEPS - 1]
        look_backs = np.where(np.diff(steps) > 1, rng.integers(1, 4, budget - 1), 1)
        found[Schedule(steps, STEPS, look_backs.tolist())] = None
    return list(found)


Off = Callable[[Schedule, int], float]
"""By what logarithm a pair's real error is off."""


def runs_of(schedules: list[Schedule], off: Off, pairs: range = range(PAIRS)) -> list[RealRun]:
    return [
        RealRun(
            each,
            np.array(pairs),
            np.zeros((len(pairs), STEPS)),
            FORM.values(Candidates.of([each]))[0, pairs.start : pairs.stop]
            * np.exp([off(each, pair) for pair in pairs]),
        )
        for each in schedules
    ]


def predictions(runs: list[RealRun], schedules: list[Schedule]) -> Floats:
    surrogate = fit_surrogate(FORM, runs)
    assert surrogate is not None
    return surrogate.predicted(Candidates.of(schedules))


def test_where_the_form_is_right_it_predicts_the_form() -> None:
    """Whatever a pair is off by itself: that belongs to no schedule."""
    ran, others = drawn(20, 0), drawn(20, 1)
    found = predictions(runs_of(ran, lambda schedule, pair: pair / 3), others)
    expected = FORM.pooled(Candidates.of(others)) + np.arange(PAIRS).mean() / 3
    np.testing.assert_allclose(found, expected, atol=1e-9)


def smoothly(schedule: Schedule, pair: int) -> float:
    """Schedules whose second computed step comes late do worse than the form says."""
    return schedule.computed_steps[1] / 4


def test_what_ran_is_predicted_as_it_was() -> None:
    ran = drawn(20, 0)
    off = [smoothly(each, 0) for each in ran]
    found = predictions(runs_of(ran, smoothly), ran) - FORM.pooled(Candidates.of(ran))
    np.testing.assert_allclose(found, off, atol=0.02)


def test_which_pairs_a_schedule_ran_on_makes_no_difference() -> None:
    """All run on two pairs, the worst half on the others, too, which are off by themselves."""
    ran = sorted(drawn(30, 0), key=lambda each: smoothly(each, 0))

    def off(schedule: Schedule, pair: int) -> float:
        return smoothly(schedule, pair) + (0.0 if pair < 2 else 5.0)

    parts = [*runs_of(ran, off, range(2)), *runs_of(ran[15:], off, range(2, PAIRS))]
    found = predictions(parts, ran) - FORM.pooled(Candidates.of(ran))
    found -= found.mean()
    expected = np.array([smoothly(each, 0) for each in ran])
    np.testing.assert_allclose(found, expected - expected.mean(), atol=0.05)


def test_what_all_runs_have_in_common_says_nothing_of_others() -> None:
    """Step 1 is computed in all that ran; a schedule that caches it is not beyond everything."""
    ran = [
        Schedule([0, 1, *each.computed_steps[2:]], STEPS, [1, 2, *each.look_backs[2:]])
        for each in drawn(60, 0)
        if each.computed_steps[2] > 3
    ]

    def off(schedule: Schedule, pair: int) -> float:
        return schedule.computed_steps[2] / 4

    near = [Schedule([0, 2, *each.computed_steps[2:]], STEPS, each.look_backs) for each in ran[:9]]
    surrogate = fit_surrogate(FORM, runs_of(ran, off))
    assert surrogate is not None
    found = surrogate.predicted(Candidates.of(near)) - FORM.pooled(Candidates.of(near))
    # Beyond everything it would be the mean of what ran.
    assert (np.abs(found - surrogate.constant) > 0.1).all()


def test_pictures_and_latents_count_alike() -> None:
    """Matrices of latents that are seven times the pictures' move predictions, and no rank."""
    ran, others = drawn(20, 0), drawn(20, 1)
    both = replace(FORM, grams=np.concatenate([FORM.grams, 7 * FORM.grams]))
    surrogate = fit_surrogate(both, runs_of(ran, smoothly))
    assert surrogate is not None
    found = surrogate.predicted(Candidates.of(others))
    expected = predictions(runs_of(ran, smoothly), others) + np.log(7) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("budgets", [[BUDGET], [BUDGET - 1, BUDGET + 1]])
def test_it_ranks_what_has_not_run_better_than_the_form_does(budgets: list[int]) -> None:
    """From runs of its own budget, and from those of others."""
    ran = [each for budget in budgets for each in drawn(40, 0, budget)]
    others = drawn(60, 1)

    def off(schedule: Schedule, pair: int) -> float:
        return 4 * smoothly(schedule, pair)

    form = FORM.pooled(Candidates.of(others))
    real = form + [off(each, 0) for each in others]
    found = predictions(runs_of(ran, off), others)
    assert spearmanr(form, real).statistic < 0.6
    assert spearmanr(found, real).statistic > 0.9


def test_chance_is_not_learnt() -> None:
    """Every pair of every schedule is off by something drawn: the form stays what it was."""
    ran, others = drawn(30, 0), drawn(30, 1)
    rng = np.random.default_rng(5)
    found = predictions(runs_of(ran, lambda schedule, pair: float(rng.normal())), others)
    off = found - FORM.pooled(Candidates.of(others))
    # The means over six pairs that were drawn deviate by 0.41.
    assert off.std() < 0.1


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_pair_that_says_nothing_is_left_out(value: float) -> None:
    ran, others = drawn(12, 0), drawn(5, 1)
    without = runs_of(ran, smoothly, range(1, PAIRS))
    spoilt = runs_of(ran, smoothly)
    for run in spoilt:
        run.squares[0] = value
    np.testing.assert_array_equal(predictions(spoilt, others), predictions(without, others))


def test_runs_of_one_schedule_on_several_pairs_are_one() -> None:
    ran, others = drawn(12, 0), drawn(5, 1)
    parts = [*runs_of(ran, smoothly, range(2)), *runs_of(ran, smoothly, range(2, PAIRS))]
    np.testing.assert_array_equal(
        predictions(parts, others), predictions(runs_of(ran, smoothly), others)
    )


def test_predictions_depend_on_no_other_candidate() -> None:
    others = drawn(8, 1)
    surrogate = fit_surrogate(FORM, runs_of(drawn(12, 0), smoothly))
    assert surrogate is not None
    together = surrogate.predicted(Candidates.of(others))
    alone = [surrogate.predicted(Candidates.of([each]))[0] for each in others]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_fewer_than_two_schedules_say_nothing() -> None:
    assert fit_surrogate(FORM, []) is None
    assert fit_surrogate(FORM, runs_of(drawn(1, 0), smoothly)) is None
    spoilt = runs_of(drawn(3, 0), smoothly)
    for run in spoilt:
        run.squares[:] = np.nan
    assert fit_surrogate(FORM, spoilt) is None
