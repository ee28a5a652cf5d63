"""What settings of a calibration mean, and which are refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from otcache_policies import BudgetError

from otcache_plugin.calibration.settings import (
    MOST_TRIALS,
    MOST_WAYPOINTS,
    CalibrationSettings,
    Round,
    SearchSettings,
)
from otcache_plugin.calibration.shards import _settings
from otcache_plugin.errors import ArgumentError
from otcache_plugin.parameters.otcache import MAX_WAYPOINTS
from otcache_plugin.parameters.otcache_details import MAX_HISTORY


@pytest.mark.parametrize(
    ("anchor", "reference", "waypoints", "searched", "predicted"),
    [
        (8, 20, None, (8, 10, 12, 15), (9, 11, 13, 17)),
        (10, 40, None, (10, 15, 20, 28), (12, 17, 24, 34)),
        (4, 7, None, (4, 5, 6), ()),
        (3, 5, None, (3, 4), ()),
        (2, 3, None, (2,), ()),
        (8, 20, (), (8,), (14,)),
        (8, 20, (9, 14), (8, 9, 14), (11, 17)),
        (8, 10, (), (8,), (9,)),
    ],
)
def test_what_is_searched_and_what_predicted(
    anchor: int,
    reference: int,
    waypoints: tuple[int, ...] | None,
    searched: tuple[int, ...],
    predicted: tuple[int, ...],
) -> None:
    settings = CalibrationSettings(
        budget_anchor=anchor, budget_reference=reference, waypoints=waypoints
    )
    assert settings.searched_budgets == searched
    assert settings.predicted_budgets == predicted


@pytest.mark.parametrize(
    "waypoints", [(8,), (20,), (7, 10), (10, 21), (12, 10), (10, 10), (10, 12, 11)]
)
def test_waypoints_that_make_no_path(waypoints: tuple[int, ...]) -> None:
    words = r"waypoints=\(.*\): not increasing between 8 and 20\. Give budgets between .*or none"
    with pytest.raises(ArgumentError, match=words) as caught:
        CalibrationSettings(waypoints=waypoints)
    assert caught.value.value == waypoints


def test_more_waypoints_than_a_document_holds() -> None:
    def settings(count: int) -> CalibrationSettings:
        budgets = tuple(range(9, 9 + count))
        return CalibrationSettings(num_inference_steps=300, budget_reference=200, waypoints=budgets)

    assert MOST_WAYPOINTS == MAX_WAYPOINTS
    assert len(settings(MAX_WAYPOINTS).searched_budgets) == 1 + MAX_WAYPOINTS
    with pytest.raises(ArgumentError, match="101 budgets, and a document holds 100"):
        settings(MAX_WAYPOINTS + 1)


@pytest.mark.parametrize("waypoints", [None, (), (10, 12)])
def test_settings_come_back_from_a_manifest(waypoints: tuple[int, ...] | None) -> None:
    search = SearchSettings(trials=7, rounds=(Round(3, 1.5), Round(None, 2.0)), kind="per-pair")
    settings = CalibrationSettings(waypoints=waypoints, seed=3, search=search)
    assert _settings(json.loads(json.dumps(asdict(settings)))) == settings


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"budget_reference": 50}, "budget_reference", "not from 3 to below the 50 steps"),
        ({"budget_reference": 2}, "budget_reference", "not from 3"),
        ({"num_inference_steps": 12}, "budget_reference", "below the 12 steps"),
        ({"budget_anchor": 20}, "budget_anchor", "not from 2 to below the reference's 20"),
        ({"budget_anchor": 1}, "budget_anchor", "not from 2"),
        ({"default_budget": 7}, "default_budget", "Use 8 … 50"),
        ({"default_budget": 51}, "default_budget", "above the number of steps"),
    ],
)
def test_budgets_that_make_no_policy(changes: dict[str, int], field: str, words: str) -> None:
    with pytest.raises(BudgetError, match=words) as caught:
        CalibrationSettings(**changes)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [("pairs", 0), ("held_out_pairs", 1), ("batch_size", 0), ("threads", 0), ("seed", -1)],
)
def test_settings_that_measure_nothing(field: str, value: int) -> None:
    with pytest.raises(ArgumentError, match=f"{field}={value}: below"):
        CalibrationSettings(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trials", "rounds", "climb", "altogether"),
    [(200, (100, 100), 80, 440), (0, (0, 0), 0, 0), (1, (1, 0), 0, 1), (7, (4, 3), 2, 13)],
)
def test_trials_are_split(
    trials: int, rounds: tuple[int, ...], climb: int, altogether: int
) -> None:
    settings = SearchSettings(trials=trials)
    assert settings.round_trials == rounds
    assert settings.climb_trials == climb
    assert settings.all_trials == altogether


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("trials", -1, "trials=-1: below 0"),
        ("trials", MOST_TRIALS + 1, "a document holds the history of no more"),
        ("patience", 0, "patience=0: below 1"),
        ("kind", "greedy", r"search='greedy': no such search\. Use joint or per-pair"),
    ],
)
def test_searches_that_cannot_be(field: str, value: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        SearchSettings(**{field: value})


def test_the_longest_history_fits_into_a_document() -> None:
    # The warm start's loss, and one after each trial of two rounds and three climbs.
    assert 1 + MOST_TRIALS + 3 * (MOST_TRIALS * 2 // 5) == 8801 <= MAX_HISTORY
    assert SearchSettings(trials=MOST_TRIALS).all_trials == 8800
