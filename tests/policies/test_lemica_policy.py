"""LeMiCa over an outcome table: its path, its budgets, and what is no table."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from otcache_policies import (
    BudgetError,
    LeMiCaPolicy,
    OutcomeTable,
    OutcomeTableError,
    Schedule,
    ScheduleError,
    Segment,
    caching_alone,
)
from otcache_policies.outcomes import segments_to_measure, steps_to_measure
from otcache_policies.testing import PolicyConformance


def errors(total: int, max_gap: int, seed: int = 0) -> NDArray[np.float32]:
    """Random errors of every segment up to a gap."""
    found = np.full((total, total), np.inf, dtype=np.float32)
    rng = np.random.default_rng(seed)
    for start, end in segments_to_measure(total, max_gap):
        found[start, end] = rng.uniform(0.1, 2.0)
    steps = np.arange(total - 1)
    found[steps, steps + 1] = 0
    return found


def look_backs(total: int) -> NDArray[np.uint8]:
    return np.random.default_rng(total).integers(1, 6, (total, total)).astype(np.uint8)


class TestMinimax(PolicyConformance):
    steps_to_try = (2, 12, 50)

    def make_policy(self, num_inference_steps: int) -> LeMiCaPolicy:
        table = OutcomeTable(errors(num_inference_steps, 8), look_backs(num_inference_steps))
        return LeMiCaPolicy(table)


class TestShortest(PolicyConformance):
    steps_to_try = (12, 28)

    def make_policy(self, num_inference_steps: int) -> LeMiCaPolicy:
        return LeMiCaPolicy(OutcomeTable(errors(num_inference_steps, 5)), "shortest")


@pytest.mark.parametrize("path", ["minimax", "shortest"])
def test_the_path_is_the_best_of_all(path: Any) -> None:
    table = OutcomeTable(errors(9, 4, seed=3))

    def badness(steps: tuple[int, ...]) -> Any:
        found = [float(table.errors[edge]) for edge in pairwise(steps)]
        return sorted(found, reverse=True) if path == "minimax" else sum(found)

    for budget in range(3, 10):
        inner = combinations(range(1, 8), budget - 2)
        best = min(badness((0, *steps, 8)) for steps in inner)
        chosen = LeMiCaPolicy(table, path).schedule(budget)
        assert badness(chosen.computed_steps) == pytest.approx(best)


def test_segments_look_back_as_they_were_measured() -> None:
    looks = np.full((5, 5), 3)
    looks[0, 2] = 2
    schedule = OutcomeTable(errors(5, 4), looks).schedule([0, 2, 3, 4])
    assert schedule.look_backs == (2, 1, 1)  # Nothing is cached in the last two.
    assert OutcomeTable(errors(5, 4)).schedule([0, 2, 4]).look_backs == (1, 1)
    assert OutcomeTable(errors(5, 4), looks).max_look_back == 3
    assert OutcomeTable(errors(5, 4)).max_look_back == 1
    assert OutcomeTable(errors(5, 4), np.full((5, 5), 255)).max_look_back == 255
    with pytest.raises(ScheduleError, match="step 4 must be computed"):
        OutcomeTable(errors(5, 4)).schedule([0, 2])


@pytest.mark.parametrize(
    ("total", "max_gap", "fewest"), [(50, 12, 6), (50, 7, 8), (50, 49, 2), (12, 2, 7), (2, 1, 2)]
)
def test_fewer_steps_than_the_gaps_allow_are_not_served(
    total: int, max_gap: int, fewest: int
) -> None:
    """By hand: 49 steps in gaps of 12 at most are 5 segments, of 7 at most 7."""
    policy = LeMiCaPolicy(OutcomeTable(errors(total, max_gap)))
    assert policy.table.max_gap == max_gap
    assert (policy.budgets.smallest, policy.budgets.largest) == (fewest, total)
    with pytest.raises(BudgetError):
        policy.schedule(fewest - 1)


def test_what_is_measured_and_what_it_takes() -> None:
    """By hand, of five steps with gaps up to 3: a segment that ends at j takes 5 - j steps."""
    assert segments_to_measure(5, 3) == [(0, 2), (0, 3), (1, 3), (1, 4), (2, 4)]
    assert steps_to_measure(5, 3) == 3 + 2 + 2 + 1 + 1
    assert caching_alone(Segment(1, 4, 2), 6) == Schedule([0, 1, 4, 5], 6, [1, 2, 1])


def test_caching_that_changes_nothing_is_measured_too() -> None:
    """No segment of three steps does anything to the outcome: four of them cost nothing."""
    free = errors(13, 3)
    free[np.arange(10), np.arange(3, 13)] = 0
    table = OutcomeTable(free)
    assert table.max_gap == 3
    assert LeMiCaPolicy(table).schedule(5).gaps == (3, 3, 3, 3)


def changed(place: tuple[int, int], value: float) -> NDArray[np.float32]:
    found = errors(6, 3)
    found[place] = value
    return found


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"errors": np.zeros((5, 6))}, "errors"),
        ({"errors": np.zeros((1, 1))}, "errors"),
        ({"errors": changed((3, 3), 0.0)}, "errors[3, 3]"),
        ({"errors": changed((1, 2), 0.5)}, "errors[1, 2]"),
        ({"errors": changed((0, 2), np.nan)}, "errors[0, 2]"),
        ({"errors": changed((1, 4), -0.1)}, "errors[1, 4]"),
        ({"errors": changed((1, 4), np.inf)}, "errors[1, 4]"),
        ({"errors": changed((0, 4), 0.5)}, "errors[1, 5]"),
        ({"look_backs": np.ones((5, 5), dtype=np.uint8)}, "look_backs"),
        ({"look_backs": np.zeros((6, 6), dtype=np.uint8)}, "look_backs"),
        ({"look_backs": np.full((6, 6), 256)}, "look_backs"),
        ({"look_backs": np.full((6, 6), 1.5)}, "look_backs"),
    ],
)
def test_what_is_no_table(changes: dict[str, NDArray[Any]], field: str) -> None:
    with pytest.raises(OutcomeTableError) as caught:
        OutcomeTable(**{"errors": errors(6, 3), **changes})
    assert caught.value.field == field


def test_a_rule_that_is_not_known() -> None:
    refusal = r"path='longest': not a known rule\. Use 'minimax' or 'shortest'"
    with pytest.raises(OutcomeTableError, match=refusal):
        LeMiCaPolicy(OutcomeTable(errors(6, 3)), "longest")  # type: ignore[arg-type]
