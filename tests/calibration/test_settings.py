"""What settings of a calibration mean, and which are refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from otcache_policies import BudgetError

from otcache_plugin.calibration.otcache import OTCacheCalibrator
from otcache_plugin.calibration.settings import (
    MOST_TRIALS,
    MOST_WAYPOINTS,
    MeanCacheOptions,
    MeasuringSettings,
    OTCacheOptions,
    SearchSettings,
)
from otcache_plugin.calibration.task import calibration_task
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
    options = OTCacheOptions(budget_anchor=anchor, budget_reference=reference, waypoints=waypoints)
    assert options.searched_budgets == searched
    assert options.predicted_budgets == predicted
    assert options.calibrated_budgets == (*searched, reference)


@pytest.mark.parametrize(
    "waypoints", [(8,), (20,), (7, 10), (10, 21), (12, 10), (10, 10), (10, 12, 11)]
)
def test_waypoints_that_make_no_path(waypoints: tuple[int, ...]) -> None:
    words = r"waypoints=\(.*\): not increasing between 8 and 20\. Give budgets between .*or none"
    with pytest.raises(ArgumentError, match=words) as caught:
        OTCacheOptions(waypoints=waypoints).check(50)
    assert caught.value.value == waypoints


def test_more_waypoints_than_a_document_holds() -> None:
    def options(count: int) -> OTCacheOptions:
        return OTCacheOptions(budget_reference=200, waypoints=tuple(range(9, 9 + count)))

    assert MOST_WAYPOINTS == MAX_WAYPOINTS
    options(MAX_WAYPOINTS).check(300)
    assert len(options(MAX_WAYPOINTS).searched_budgets) == 1 + MAX_WAYPOINTS
    with pytest.raises(ArgumentError, match="101 budgets, and a document holds 100"):
        options(MAX_WAYPOINTS + 1).check(300)


@pytest.mark.parametrize(
    ("effort", "searched"),
    [("standard", (8, 10, 12, 15)), ("thorough", (8, 10, 12, 15)), ("paper", (8,))],
)
def test_the_papers_procedure_searches_the_anchor_alone(
    effort: str, searched: tuple[int, ...]
) -> None:
    assert OTCacheOptions(effort=effort).searched_budgets == searched
    assert OTCacheOptions(effort=effort).search_scope == (
        "per-pair" if effort == "paper" else "joint"
    )


@pytest.mark.parametrize("waypoints", [None, (), (10, 12)])
def test_a_task_comes_back_from_its_manifest(waypoints: tuple[int, ...] | None) -> None:
    given = {"effort": "paper", "waypoints": waypoints, "search": "joint"}
    task = calibration_task("otcache", given, 50)
    options = json.loads(json.dumps(task.manifest))["options"]
    again = calibration_task("otcache", options, 50)
    assert again.options == task.options == OTCacheOptions(**given)  # type: ignore[arg-type]
    assert again.manifest == task.manifest


@pytest.mark.parametrize("effort", ["quick", "standard", "thorough", "paper"])
def test_a_manifest_may_hold_what_an_effort_leaves_out(effort: str) -> None:
    task = calibration_task("otcache", {"effort": effort}, 50)
    options = json.loads(json.dumps(task.manifest))["options"]
    assert set(options) == set(OTCacheOptions.model_fields)
    again = calibration_task("otcache", options, 50)
    assert (again.name, again.manifest) == (f"otcache-{effort}", task.manifest)


@pytest.mark.parametrize(
    ("effort", "given", "words"),
    [
        ("quick", {"trials": 7}, "trials=7: a calibration of the effort quick has no such option"),
        ("standard", {"trials": 7}, "Leave it out, or use the effort thorough or paper"),
        ("standard", {"patience": 7}, "patience=7: .*effort standard has no such option"),
        ("standard", {"waypoints": (10,)}, r"waypoints=\(10,\): .*effort standard has no such"),
        ("thorough", {"search": "joint"}, "search='joint': .*or use the effort paper"),
        ("fast", {}, "effort='fast': no such effort. Use quick, standard, thorough, paper"),
    ],
)
def test_options_that_an_effort_does_not_have(
    effort: str, given: dict[str, object], words: str
) -> None:
    with pytest.raises(ArgumentError, match=words):
        calibration_task("otcache", {"effort": effort, **given}, 50)


@pytest.mark.parametrize(
    ("effort", "usual", "fewest", "remedy"),
    [
        ("quick", 32, 2, "Use 2 or more$"),
        ("standard", 48, 16, "Use 16 or more, or the effort quick$"),
        ("thorough", 96, 16, "Use 16 or more, or the effort quick$"),
        ("paper", 50, 1, "Use 1 or more"),
    ],
)
def test_how_many_pairs_an_effort_takes(effort: str, usual: int, fewest: int, remedy: str) -> None:
    calibrator, options = OTCacheCalibrator(), OTCacheOptions(effort=effort)
    assert calibrator.usual_pairs(options) == usual
    calibrator.check_pairs(options, fewest)
    words = f"pairs={fewest - 1}: too few for the effort {effort}, which takes {fewest} or more"
    with pytest.raises(ArgumentError, match=words) as caught:
        calibrator.check_pairs(options, fewest - 1)
    assert re.search(remedy, caught.value.remedy)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, OTCacheOptions()),
        (
            {"effort": "paper", "trials": "7", "search": "per-pair"},
            OTCacheOptions(effort="paper", trials=7, search="per-pair"),
        ),
        (
            {"effort": "thorough", "waypoints": "10,12"},
            OTCacheOptions(effort="thorough", waypoints=(10, 12)),
        ),
        (
            {"effort": "paper", "waypoints": [10, 12]},
            OTCacheOptions(effort="paper", waypoints=(10, 12)),
        ),
        (
            {"effort": "paper", "waypoints": "none"},
            OTCacheOptions(effort="paper", waypoints=()),
        ),
    ],
)
def test_options_may_be_text(given: dict[str, object], options: OTCacheOptions) -> None:
    assert calibration_task("otcache", given, 50).options == options


@pytest.mark.parametrize(
    ("policy", "given", "words"),
    [
        (
            "otcache",
            {"trails": 3},
            r"trails=3: otcache has no such option\. otcache plugins",
        ),
        ("otcache", {"trials": "many"}, "trials='many': Input should be a valid integer"),
        (
            "otcache",
            {"effort": "paper", "search": "greedy"},
            r"search='greedy': no such search\. Use joint or per-p",
        ),
        ("otcache", {"effort": "paper", "trials": "4001"}, "trials=4001: above 4000"),
        ("otcache", {"waypoints": "10;12"}, r"waypoints='10;12': not budgets.*10,12,15, or none"),
        ("meancache", {"budgets": "8,8"}, r"budgets=\(8, 8\): not increasing from 2 to below"),
        ("meancache", {"budgets": "none"}, r"budgets=\(\): not increasing"),
        ("meancache", {"budgets": "ten"}, "budgets='ten': not budgets with commas"),
        (
            "uniform",
            {},
            r"policy='uniform': nothing calibrates it\. Use one of budcache, dicache, "
            "direct, gram, lemica, meancache, otcache, recache, teacache",
        ),
    ],
)
def test_options_that_are_none(policy: str, given: dict[str, object], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        calibration_task(policy, given, 50)


def test_meancache_is_judged_where_otcache_is_searched() -> None:
    assert MeanCacheOptions().usual_budgets(50) == OTCacheOptions().searched_budgets
    assert MeanCacheOptions().usual_budgets(20) == (3, 4, 5, 6)
    assert MeanCacheOptions(budgets=(7,)).usual_budgets(20) == (7,)


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
    steps = changes.get("num_inference_steps", 50)
    given = {name: value for name, value in changes.items() if name != "num_inference_steps"}
    options = OTCacheOptions(**given)  # type: ignore[arg-type]
    with pytest.raises(BudgetError, match=words) as caught:
        options.check(steps)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [("pairs", 0), ("held_out_pairs", 1), ("batch_size", 0), ("threads", 0), ("seed", -1)],
)
def test_settings_that_measure_nothing(field: str, value: int) -> None:
    with pytest.raises(ArgumentError, match=f"{field}={value}: below"):
        MeasuringSettings(**{field: value})  # type: ignore[arg-type]


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
    ],
)
def test_searches_that_cannot_be(field: str, value: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        SearchSettings(**{field: value})


def test_the_longest_history_fits_into_a_document() -> None:
    # The warm start's loss, and one after each trial of two rounds and three climbs.
    assert 1 + MOST_TRIALS + 3 * (MOST_TRIALS * 2 // 5) == 8801 <= MAX_HISTORY
    assert SearchSettings(trials=MOST_TRIALS).all_trials == 8800
