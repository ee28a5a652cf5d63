"""Gains, fitted to runs whose ends are known, against plain least squares over whole vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from otcache_policies import GramTable, RealRun, Schedule, fit_gains, gains
from otcache_policies.displacement import Candidates, euler_response, increments

STEPS, PAIRS, ELEMENTS = 33, 3, 48
SCHEDULES = (
    Schedule([0, 3, 6, 9, 13, 17, 20, 24, 28, 32], STEPS, [1, 2, 1, 2, 1, 2, 1, 2, 1]),
    Schedule([0, 2, 5, 11, 15, 19, 22, 26, 30, 32], STEPS, [2, 1, 2, 1, 2, 1, 2, 1, 2]),
)
"""Their segments end between all knots, which are every four steps."""

FROM_KNOTS = np.interp(
    np.arange(STEPS), np.linspace(0, 32, 9), [0.2, 0.3, 0.25, 0.5, 0.4, 0.7, 0.8, 0.6, 1.1]
)
"""Gains that are linear between nine knots."""


def velocities() -> NDArray[np.float64]:
    """Of every pair, step and element."""
    return np.random.default_rng(0).normal(size=(PAIRS, STEPS, ELEMENTS))


def table_of(recorded: NDArray[np.float64]) -> GramTable:
    products = recorded @ recorded.transpose(0, 2, 1) / ELEMENTS
    return GramTable(products, np.linspace(1.0, 0.0, STEPS + 1) ** 1.5)


def segments_of(schedule: Schedule, table: GramTable) -> NDArray[np.float64]:
    """What each segment adds, in terms of the recorded velocities: one row per segment."""
    return increments(Candidates.of([schedule]), table.sigmas, euler_response(table.sigmas))[0]


def ends_of(
    schedule: Schedule,
    table: GramTable,
    recorded: NDArray[np.float64],
    known: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Where runs end whose increments are left with known gains: one vector per pair."""
    ends = list(schedule.computed_steps[1:])
    return np.einsum("j,jt,nte->ne", known[ends], segments_of(schedule, table), recorded)


def run_of(schedule: Schedule, ends: NDArray[np.float64], recorded: NDArray[np.float64]) -> RealRun:
    products = np.einsum("nte,ne->nt", recorded, ends) / ELEMENTS
    return RealRun(schedule, np.arange(len(ends)), products, np.square(ends).mean(axis=1))


def runs_of(known: NDArray[np.float64]) -> tuple[GramTable, list[RealRun]]:
    recorded = velocities()
    table = table_of(recorded)
    return table, [
        run_of(each, ends_of(each, table, recorded, known), recorded) for each in SCHEDULES
    ]


def least_squares(
    table: GramTable, ends: Sequence[NDArray[np.float64]], recorded: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The knots that explain every element best, each pair's run scaled to the same length."""
    hats = np.array(
        [np.interp(np.arange(STEPS), np.linspace(0, 32, 9), unit) for unit in np.eye(9)]
    )
    rows, targets = [], []
    for schedule, own in zip(SCHEDULES, ends, strict=True):
        added = np.einsum("jt,nte->jne", segments_of(schedule, table), recorded)
        knots = np.einsum("kj,jne->kne", hats[:, list(schedule.computed_steps[1:])], added)
        for pair in range(PAIRS):
            length = np.linalg.norm(own[pair])
            rows.append(knots[:, pair].T / length)
            targets.append(own[pair] / length)
    found, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=None)
    return found


def test_a_linear_model_has_gains_of_one() -> None:
    table, runs = runs_of(np.ones(STEPS))
    found = fit_gains(table, runs)
    assert found is not None
    # The matrices are kept in single precision.
    np.testing.assert_allclose(found.values, 1.0, atol=1e-5)
    assert found.unexplained == pytest.approx(0.0, abs=1e-5)
    assert found.unexplained_before == pytest.approx(0.0, abs=1e-5)


def test_known_gains_are_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gains, "RIDGE", 0.0)
    table, runs = runs_of(FROM_KNOTS)
    found = fit_gains(table, runs)
    assert found is not None
    np.testing.assert_allclose(found.values, FROM_KNOTS, atol=1e-4)
    assert found.unexplained == pytest.approx(0.0, abs=1e-5)


def test_held_to_one_a_little_they_are_nearly_the_same() -> None:
    table, runs = runs_of(FROM_KNOTS)
    found = fit_gains(table, runs)
    assert found is not None
    np.testing.assert_allclose(found.values, FROM_KNOTS, atol=0.05)
    assert 0 <= found.unexplained < 1e-3


def test_what_gains_of_one_leave_by_hand() -> None:
    """The mean over runs and pairs of the squared distance, as a share of the squared end."""
    recorded = velocities()
    table, runs = runs_of(FROM_KNOTS)
    shares = []
    for schedule in SCHEDULES:
        end = ends_of(schedule, table, recorded, FROM_KNOTS)
        linear = ends_of(schedule, table, recorded, np.ones(STEPS))
        shares.append(np.square(end - linear).sum(axis=1) / np.square(end).sum(axis=1))
    found = fit_gains(table, runs)
    assert found is not None
    assert found.unexplained_before == pytest.approx(np.mean(shares), rel=1e-5)
    assert found.unexplained < 0.01 < found.unexplained_before


def test_runs_that_no_gains_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends with noise: the fit is that of least squares over all their elements."""
    monkeypatch.setattr(gains, "RIDGE", 0.0)
    rng, recorded = np.random.default_rng(1), velocities()
    table = table_of(recorded)
    ends = [ends_of(each, table, recorded, FROM_KNOTS) for each in SCHEDULES]
    ends = [each + 0.3 * each.std() * rng.normal(size=each.shape) for each in ends]
    runs = [run_of(each, end, recorded) for each, end in zip(SCHEDULES, ends, strict=True)]
    found = fit_gains(table, runs)
    assert found is not None
    knots = least_squares(table, ends, recorded)
    np.testing.assert_allclose(found.values[::4], knots, atol=1e-4)
    assert 0 < found.unexplained < found.unexplained_before


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["products", "squares"])
def test_a_pair_that_is_not_finite_says_nothing(value: float, where: str) -> None:
    table, runs = runs_of(FROM_KNOTS)
    first, *others = runs
    kept = RealRun(first.schedule, first.pairs[1:], first.products[1:], first.squares[1:])
    products, squares = first.products.copy(), first.squares.copy()
    if where == "products":
        products[0, 5] = value
    else:
        squares[0] = value
    spoilt = RealRun(first.schedule, first.pairs, products, squares)
    expected, found = fit_gains(table, [kept, *others]), fit_gains(table, [spoilt, *others])
    assert expected is not None
    assert found is not None
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.unexplained == expected.unexplained


def test_a_run_that_ends_where_the_full_one_does_says_nothing() -> None:
    table, (run, _) = runs_of(FROM_KNOTS)
    still = RealRun(run.schedule, run.pairs, np.zeros_like(run.products), np.zeros(PAIRS))
    failed = RealRun(run.schedule, run.pairs, run.products * np.nan, run.squares)
    assert fit_gains(table, [still, failed]) is None
    alone, beside = fit_gains(table, [run]), fit_gains(table, [still, run, failed])
    assert alone is not None
    assert beside is not None
    np.testing.assert_array_equal(alone.values, beside.values)
