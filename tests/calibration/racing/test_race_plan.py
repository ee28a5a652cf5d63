"""What a race spends, by hand for 50 steps, and what holds for every plan."""

from __future__ import annotations

import pytest

from otcache_plugin.calibration.otcache import OTCacheCalibrator
from otcache_plugin.calibration.racing.plan import RacePlan
from otcache_plugin.calibration.settings import OTCacheOptions
from otcache_plugin.evaluation.batches import batches_of
from otcache_plugin.plugins.costs import StageCost, Workload

USUAL = RacePlan(50, 48, range(8, 21))
"""5.6 times 50 steps of 48 pairs, over 13 budgets: 1,033.8 denoising steps for each."""


def workload(steps: int, pairs: int, batch_size: int = 16) -> Workload:
    return Workload(steps, 6, batches_of("calibration", pairs, batch_size), min(4, batch_size))


def costs_of(
    effort: str, steps: int, pairs: int, batch_size: int = 16, **budgets: int
) -> dict[str, StageCost]:
    options = OTCacheOptions(effort=effort, **budgets)  # type: ignore[arg-type]
    costs = OTCacheCalibrator().costs(options, workload(steps, pairs, batch_size))
    return {each.stage: each for each in costs}


@pytest.mark.parametrize(
    ("budget", "candidates", "final"),
    [
        # 129.2 runs: a quarter of them in a heat of four pairs, 8 candidates. With three fitted
        # ones 44 runs, and 32 of the four that survive, on eight pairs; 53 are left for two.
        (8, 8, 24),
        # 114.9 runs: 40 and 32, 42 are left.
        (9, 7, 20),
        # 103.4 runs: 36 and 32, 35 are left: 17 pairs each, to be a multiple of 4.
        (10, 6, 16),
        # 94.0 runs, too few for a longer second heat: 32 and 16, 45 are left.
        (11, 5, 20),
        (12, 5, 16),
        (13, 4, 16),
        (14, 4, 12),
        (15, 4, 12),
        (16, 4, 8),
        (17, 3, 8),
        (18, 3, 8),
        # 54.4 and 51.7 runs: seven or five pairs would be left, too few for a final.
        (19, 3, 8),
        (20, 3, 8),
    ],
)
def test_runs_of_a_budget_by_hand(budget: int, candidates: int, final: int) -> None:
    assert USUAL.candidates(budget) == candidates
    assert USUAL.final(budget) == range(24, 24 + final)


def test_the_stages_by_hand() -> None:
    costs = costs_of("standard", 50, 48)
    assert list(costs) == [
        "recording full runs",
        "optimising the quadratic form",
        "first heat",
        "optimising with gains",
        "heat of fitted candidates",
        "second heat",
        "finals on fresh pairs",
        "optimising with the gains of all heats",
        "last heat",
        "finals of the last heat",
    ]
    steps = {stage: each.denoising_steps for stage, each in costs.items()}
    total = sum(range(8, 21))
    assert steps["recording full runs"] == 48 * 50
    # The candidates of every budget times the budget are 64 63 60 55 60 52 56 60 64 51 54 57 60.
    assert steps["first heat"] == 4 * 756
    assert steps["heat of fitted candidates"] == 4 * 3 * total
    # Of 8, 9 and 10 steps it is twice as long.
    assert steps["second heat"] == 4 * 4 * (total + 8 + 9 + 10)
    # Pairs times budgets: 192 180 160 220 192 208 168 180 128 136 144 152 160.
    assert steps["finals on fresh pairs"] == 2 * 2220
    # What these cannot take; the last heat and its finals spend what they have saved, too.
    assert steps["last heat"] == 13_440 - 12_992
    assert steps["finals of the last heat"] == 0
    assert sum(steps.values()) == 2_400 + USUAL.steps == 15_840 <= 16_000


@pytest.mark.parametrize(
    ("spent", "newcomers"),
    [
        # 2,600 steps are left, 100 of their first half for each budget: 12 runs of 8 steps, 11 of
        # 9, 8 of 12, 7 of 13, 5 of 20, on four pairs each.
        (10_840, [3, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1]),
        # 9,100: 350 for each, and no budget has more than six.
        (4_340, [6, 6, 6, 6, 6, 6, 6, 5, 5, 5, 4, 4, 4]),
        (13_440, [0] * 13),
        (99_999, [0] * 13),
    ],
)
def test_the_last_heat_gets_half_of_what_is_left(spent: int, newcomers: list[int]) -> None:
    assert USUAL.newcomers(spent) == dict(zip(range(8, 21), newcomers, strict=True))


def test_any_budgets_from_6_to_20_take_at_most_16_000_steps() -> None:
    """What `standard` promises: 48 recorded runs of 50 steps, and the race the rest.

    With more budgets than that their shares become too small for the fewest candidates and pairs,
    and it takes more.
    """

    def steps(first: int, last: int) -> int:
        race = RacePlan(50, 48, range(first, last + 1)).costs(workload(50, 48))
        return 48 * 50 + sum(each.denoising_steps for each in race)

    every = [steps(first, last) for last in range(7, 21) for first in range(6, last)]
    assert len(every) == 105
    assert max(every) == 15_940
    assert steps(8, 24) == 18_516


def test_quick_is_the_recording_alone() -> None:
    costs = costs_of("quick", 50, 32)
    assert costs["recording full runs"] == StageCost("recording full runs", 2, 100, 1_600)
    assert sum(each.denoising_steps for each in costs.values()) == 1_600


def test_runs_of_few_pairs_are_calls_of_four() -> None:
    costs = costs_of("standard", 50, 48)
    assert costs["second heat"].calls == 13 * 4 + 3 * 4
    assert costs["second heat"].call_steps == 4 * (sum(range(8, 21)) + 8 + 9 + 10)
    assert costs["recording full runs"] == StageCost("recording full runs", 3, 150, 2_400)


def test_runs_of_few_pairs_end_where_a_batch_does() -> None:
    """Of batches of six pairs there are runs of four and of two: 0-3, 4-5, 6-9, 10-11 …"""
    costs = costs_of("standard", 50, 48, 6, budget_anchor=19, budget_reference=20)
    assert RacePlan(50, 48, range(19, 21)).second_heat(19) == range(4, 12)
    # Pairs 4 and 5, then 6 … 9, then 10 and 11: three calls, not two.
    assert costs["second heat"].calls == 2 * 4 * 3
    assert costs["second heat"].denoising_steps == 4 * 8 * (19 + 20)


def test_thorough_adds_searches_and_their_finals() -> None:
    costs = costs_of("thorough", 50, 96)
    race = list(costs_of("standard", 50, 96).values())
    assert list(costs.values())[: len(race)] == race
    added = {stage: each.denoising_steps for stage, each in list(costs.items())[len(race) :]}
    # The start, 200 trials of CMA-ES and three climbs of 80, on half of the pairs.
    trials = 1 + 200 + 3 * 80
    assert added == {
        **{f"searching {budget} steps": trials * 48 * budget for budget in (8, 10, 12, 15)},
        # A challenger, who has won so far, and the graph policy's on the other half.
        "finals of what was searched": 3 * 48 * (8 + 10 + 12 + 15),
        "finals of what is predicted": 3 * 48 * (sum(range(8, 21)) - 8 - 10 - 12 - 15),
    }


@pytest.mark.parametrize("steps", [12, 28, 50])
@pytest.mark.parametrize("pairs", [16, 17, 31, 48, 96])
def test_what_holds_for_every_plan(steps: int, pairs: int) -> None:
    budgets = range(4, min(steps - 1, 20))
    plan = RacePlan(steps, pairs, budgets)
    searching, selecting = set(plan.searching), set(plan.selecting)
    assert not searching & selecting
    assert searching | selecting == set(range(pairs))
    assert set(plan.first_heat) <= searching
    for budget in budgets:
        assert set(plan.second_heat(budget)) <= searching - set(plan.first_heat)
        assert len(plan.second_heat(budget)) >= 4
        assert set(plan.final(budget)) <= selecting
        assert len(plan.final(budget)) >= 8
        assert plan.candidates(budget) in range(3, 10)
    # Small budgets get the most runs.
    assert sorted(map(plan.candidates, budgets), reverse=True) == list(
        map(plan.candidates, budgets)
    )
