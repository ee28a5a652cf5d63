"""Edge tables: what they accept, both readings of a cost, and the look-backs they choose."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from otcache_policies import EdgeSettings, EdgeTable, EdgeTableError, ScheduleError

SIGMAS = [1.0, 0.9, 0.6, 0.2, 0.0]


def errors_of_four_steps() -> np.ndarray:
    """Two look-backs; the edges with cached steps are 0→2, 1→3 and 0→3."""
    errors = np.full((4, 4, 2), np.inf, dtype=np.float32)
    for step in range(3):
        errors[step, step + 1] = 0
    errors[0, 2] = [2, 1]
    errors[1, 3] = [3, 3]
    errors[0, 3] = [4, 8]
    return errors


@pytest.fixture
def table() -> EdgeTable:
    return EdgeTable(errors_of_four_steps(), np.array(SIGMAS))


def test_knows_its_size(table: EdgeTable) -> None:
    assert table.num_inference_steps == 4
    assert table.max_look_back == 2
    assert table.velocity_errors.dtype == np.float32
    assert table.sigmas.dtype == np.float64


def test_arrays_are_copies_and_read_only() -> None:
    errors, sigmas = errors_of_four_steps(), np.array(SIGMAS)
    table = EdgeTable(errors, sigmas)
    errors[0, 2] = 7
    sigmas[0] = 7
    assert table.velocity_errors[0, 2, 0] == 2
    assert table.sigmas[0] == 1
    for array in (table.velocity_errors, table.sigmas):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def spread_of_four_steps() -> np.ndarray:
    """The spread that belongs to the errors, a tenth of them."""
    errors = errors_of_four_steps()
    return np.where(np.isfinite(errors), errors / 10, 0).astype(np.float32)


def test_a_spread_is_copied_kept_and_protected(table: EdgeTable) -> None:
    assert table.spread is None
    assert pickle.loads(pickle.dumps(table)).spread is None
    spread = spread_of_four_steps()
    with_spread = EdgeTable(errors_of_four_steps(), SIGMAS, spread.astype(np.float64))
    spread[0, 2] = 7
    for each in (with_spread, pickle.loads(pickle.dumps(with_spread))):
        assert each.spread.dtype == np.float32
        np.testing.assert_array_equal(each.spread, spread_of_four_steps())
        with pytest.raises(ValueError, match="read-only"):
            each.spread[0] = 0
    # It says how sure the errors are, and changes none of them.
    np.testing.assert_array_equal(with_spread.costs(EdgeSettings()), table.costs(EdgeSettings()))


@pytest.mark.parametrize(
    ("index", "value", "problem"),
    [
        ((2, 1, 0), np.inf, "must be 0, nothing is cached"),
        ((3, 3, 1), 0.1, "must be 0"),
        ((1, 2, 0), 0.5, "must be 0"),
        ((1, 2, 1), np.nan, "must be 0"),
        ((0, 3, 1), np.nan, "not finite and >= 0"),
        ((0, 3, 1), np.inf, "not finite and >= 0"),
        ((0, 3, 1), 1e300, "not finite and >= 0"),
        ((0, 2, 0), -1.0, "not finite and >= 0"),
    ],
)
def test_refuses_a_wrong_spread_by_its_place(
    index: tuple[int, int, int], value: float, problem: str
) -> None:
    spread = spread_of_four_steps().astype(np.float64)
    spread[index] = value
    with pytest.raises(EdgeTableError, match=problem) as caught:
        EdgeTable(errors_of_four_steps(), np.array(SIGMAS), spread)
    assert caught.value.field == f"spread[{index[0]}, {index[1]}, {index[2]}]"


@pytest.mark.parametrize("spread", [np.zeros((4, 4, 1)), np.zeros((4, 4)), 0.0])
def test_refuses_a_spread_of_another_shape(spread: object) -> None:
    with pytest.raises(EdgeTableError, match=r"spread=.*not of the velocity errors' shape"):
        EdgeTable(errors_of_four_steps(), np.array(SIGMAS), spread)


def test_refuses_a_spread_that_is_no_array() -> None:
    with pytest.raises(EdgeTableError, match="spread='wide': not an array of numbers"):
        EdgeTable(errors_of_four_steps(), np.array(SIGMAS), "wide")


def test_velocity_cost_is_the_best_look_back_of_each_edge(table: EdgeTable) -> None:
    inf = np.inf
    expected = [[inf, 0, 1, 4], [inf, inf, 0, 3], [inf, inf, inf, 0], [inf, inf, inf, inf]]
    np.testing.assert_array_equal(table.costs(EdgeSettings("velocity")), expected)


def test_displacement_cost_is_wider_where_sigma_falls_further(table: EdgeTable) -> None:
    inf = np.inf
    expected = [[inf, 0, 0.4, 3.2], [inf, inf, 0, 2.1], [inf, inf, inf, 0], [inf, inf, inf, inf]]
    np.testing.assert_allclose(table.costs(EdgeSettings("displacement")), expected)


def test_a_constant_look_back_reads_its_own_layer(table: EdgeTable) -> None:
    costs = table.costs(EdgeSettings("velocity", look_back=2))
    assert (costs[0, 2], costs[1, 3], costs[0, 3]) == (1, 3, 8)


def test_costs_come_before_gamma(table: EdgeTable) -> None:
    np.testing.assert_array_equal(
        table.costs(EdgeSettings(gamma=4.0)), table.costs(EdgeSettings(gamma=1.0))
    )


@pytest.mark.parametrize(
    ("steps", "look_back", "expected"),
    [
        ([0, 2, 3], None, (2, 1)),
        ([0, 1, 3], None, (1, 1)),  # 3 and 3: a tie, so the smaller
        ([0, 3], None, (1,)),
        ([0, 1, 2, 3], None, (1, 1, 1)),
        ([0, 1, 3], 2, (1, 2)),  # nothing is cached from 0 to 1
    ],
)
def test_look_backs(
    table: EdgeTable, steps: list[int], look_back: int | None, expected: tuple[int, ...]
) -> None:
    assert table.look_backs(steps, EdgeSettings(look_back=look_back)) == expected


@pytest.mark.parametrize(
    ("index", "value", "problem"),
    [
        ((2, 1, 0), 0.0, "must be [+]inf"),
        ((3, 3, 1), np.nan, "must be [+]inf"),
        ((1, 2, 0), 0.5, "must be 0"),
        ((0, 3, 1), np.nan, "not finite and >= 0"),
        ((0, 3, 1), np.inf, "not finite and >= 0"),
        ((0, 3, 1), 1e300, "not finite and >= 0"),
        ((0, 2, 0), -1.0, "not finite and >= 0"),
    ],
)
def test_refuses_a_wrong_entry_by_its_place(
    index: tuple[int, int, int], value: float, problem: str
) -> None:
    errors = errors_of_four_steps().astype(np.float64)
    errors[index] = value
    with pytest.raises(EdgeTableError, match=problem) as caught:
        EdgeTable(errors, np.array(SIGMAS))
    assert caught.value.field == f"velocity_errors[{index[0]}, {index[1]}, {index[2]}]"


@pytest.mark.parametrize("shape", [(4, 4), (4, 3, 2), (4, 4, 0), (0, 0, 2)])
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(EdgeTableError, match=r"velocity_errors=.*not of shape"):
        EdgeTable(np.zeros(shape, dtype=np.float32), np.array(SIGMAS))


def test_refuses_what_is_no_array() -> None:
    with pytest.raises(EdgeTableError, match="velocity_errors='errors': not an array of numbers"):
        EdgeTable("errors", np.array(SIGMAS))


@pytest.mark.parametrize(
    ("sigmas", "problem"),
    [
        (SIGMAS[:-1], "4 entries, not 5 for 4 steps"),
        ([1.0, 0.9, 0.9, 0.2, 0.0], "strictly decreasing"),
        ([0.0, 0.2, 0.6, 0.9, 1.0], "strictly decreasing"),
        ([np.nan, 0.9, 0.6, 0.2, 0.0], "finite"),
        ([np.inf, 0.9, 0.6, 0.2, 0.0], "finite"),
        ([SIGMAS], "not that of a noise schedule"),
        (["a", "b"], "not an array of numbers"),
    ],
)
def test_refuses_other_sigmas(sigmas: object, problem: str) -> None:
    with pytest.raises(EdgeTableError, match=problem) as caught:
        EdgeTable(errors_of_four_steps(), sigmas)
    assert caught.value.field == "sigmas"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"cost": "area"}, "cost"),
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": -1.0}, "gamma"),
        ({"gamma": float("nan")}, "gamma"),
        ({"gamma": float("inf")}, "gamma"),
        ({"gamma": "2"}, "gamma"),
        ({"gamma": True}, "gamma"),
        ({"look_back": 0}, "look_back"),
        ({"look_back": 1.0}, "look_back"),
        ({"look_back": True}, "look_back"),
    ],
)
def test_refuses_other_settings(settings: dict[str, object], field: str) -> None:
    with pytest.raises(EdgeTableError) as caught:
        EdgeSettings(**settings)
    assert caught.value.field == field
    assert caught.value.remedy


def test_refuses_look_backs_beyond_the_table(table: EdgeTable) -> None:
    settings = EdgeSettings(look_back=3)
    for ask in (lambda: table.costs(settings), lambda: table.look_backs([0, 3], settings)):
        with pytest.raises(
            EdgeTableError, match=r"look_back=3: the table goes up to 2\. Use 1 … 2"
        ):
            ask()


def test_refuses_schedules_of_another_run(table: EdgeTable) -> None:
    with pytest.raises(ScheduleError, match="step 4 is outside 0 … 3"):
        table.look_backs([0, 4], EdgeSettings())
