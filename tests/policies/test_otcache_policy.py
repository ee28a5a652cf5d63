"""The OTCache policy: calibrated at the ends, predicted between, graph policy above."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from otcache_policies import (
    BudgetError,
    EdgeSettings,
    EdgeTable,
    EdgeTableError,
    FieldError,
    MeanCachePolicy,
    OTCachePolicy,
    Schedule,
    ScheduleError,
    predict,
)

MakeTable = Callable[..., EdgeTable]

ANCHOR = Schedule([0, 8, 16], 17, [2, 3])
REFERENCE = Schedule([0, 1, 2, 3, 4, 6, 8, 12, 16], 17, [1, 1, 1, 1, 4, 5, 6, 2])


def test_calibrated_budgets_give_the_calibrated_schedules(make_table: MakeTable) -> None:
    for edges in (None, make_table(17)):
        policy = OTCachePolicy(ANCHOR, REFERENCE, edges=edges)
        assert policy.schedule(3) is ANCHOR
        assert policy.schedule(9) is REFERENCE
        assert policy.schedule(17) == Schedule.full(17)


def test_a_reference_of_every_step_stays_the_reference() -> None:
    reference = Schedule(range(17), 17, [2] * 16)
    assert OTCachePolicy(ANCHOR, reference).schedule(17) is reference


def test_steps_between_are_the_prediction(make_table: MakeTable) -> None:
    for rho in (1.0, 1.3):
        for edges in (None, make_table(17)):
            policy = OTCachePolicy(ANCHOR, REFERENCE, rho, edges)
            for budget in range(4, 9):
                expected = predict(ANCHOR, REFERENCE, budget, rho)
                assert policy.schedule(budget).computed_steps == expected


def test_look_backs_without_a_table_come_from_the_nearer_end() -> None:
    policy = OTCachePolicy(ANCHOR, REFERENCE, rho=1.0)
    # Budget 5 is (0, 3, 6, 10, 16) and nearer to the anchor, whose halves have 2 and 3.
    assert policy.schedule(5) == Schedule([0, 3, 6, 10, 16], 17, [2, 2, 3, 3])
    # Budget 6 is as near to both, so the reference decides: by the midpoint of each segment.
    even = policy.schedule(6)
    middles = [(segment.start + segment.end) / 2 for segment in even.segments if segment.gap > 1]
    expected = [
        segment.look_back
        for middle in middles
        for segment in REFERENCE.segments
        if segment.start <= middle < segment.end
    ]
    assert [s.look_back for s in even.segments if s.gap > 1] == expected
    assert set(expected) > {2}


@pytest.mark.parametrize("settings", [EdgeSettings(), EdgeSettings(look_back=2)], ids=str)
def test_look_backs_with_a_table_are_its_own(make_table: MakeTable, settings: EdgeSettings) -> None:
    table = make_table(17)
    policy = OTCachePolicy(ANCHOR, REFERENCE, edges=table, settings=settings)
    for budget in range(4, 9):
        schedule = policy.schedule(budget)
        assert schedule.look_backs == table.look_backs(schedule.computed_steps, settings)


def test_calibrated_look_backs_are_inherited_by_midpoint(make_table: MakeTable) -> None:
    for edges in (None, make_table(17)):
        policy = OTCachePolicy(ANCHOR, REFERENCE, 1.0, edges, look_backs=(5, 6))
        # Middles 1.5, 4.5, 8 and 13: the last two lie in the anchor's second segment, 8 … 16.
        assert policy.schedule(5) == Schedule([0, 3, 6, 10, 16], 17, [5, 5, 6, 6])
        for budget in range(4, 9):
            for segment in policy.schedule(budget).segments:
                inherited = 5 if segment.start + segment.end < 16 else 6
                assert segment.look_back == (inherited if segment.gap > 1 else 1)


def test_calibrated_schedules_and_the_graph_policys_keep_their_look_backs(
    make_table: MakeTable,
) -> None:
    table, settings = make_table(17), EdgeSettings("velocity", gamma=2.0)
    plain = OTCachePolicy(ANCHOR, REFERENCE, 1.0, table, settings)
    policy = OTCachePolicy(ANCHOR, REFERENCE, 1.0, table, settings, look_backs=(5, 6))
    for budget in (3, *range(9, 18)):
        assert policy.schedule(budget) == plain.schedule(budget)
    for budget in range(4, 9):
        assert policy.schedule(budget).computed_steps == plain.schedule(budget).computed_steps


def test_look_backs_are_kept_as_a_tuple() -> None:
    policy = OTCachePolicy(ANCHOR, REFERENCE, look_backs=[5, 6])  # type: ignore[arg-type]
    assert policy.look_backs == (5, 6)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(policy) == hash(OTCachePolicy(ANCHOR, REFERENCE, look_backs=(5, 6)))
    assert policy != OTCachePolicy(ANCHOR, REFERENCE)


@pytest.mark.parametrize(
    ("look_backs", "words"),
    [
        ((), "0 look-backs for 2 segments"),
        ((1,), "1 look-backs for 2 segments"),
        ((1, 2, 3), "3 look-backs for 2 segments"),
        ((1, 0), "a look-back is below 1"),
        ((1, 1.5), "an integer is needed"),
    ],
)
def test_look_backs_that_do_not_fit_the_anchor(look_backs: tuple[int, ...], words: str) -> None:
    with pytest.raises(ScheduleError, match=words) as caught:
        OTCachePolicy(ANCHOR, REFERENCE, look_backs=look_backs)
    assert caught.value.field == "look_backs"


def test_above_the_reference_the_graph_policy_serves(make_table: MakeTable) -> None:
    table, settings = make_table(17), EdgeSettings("velocity", gamma=2.0)
    policy = OTCachePolicy(ANCHOR, REFERENCE, edges=table, settings=settings)
    graph = MeanCachePolicy(table, settings)
    for budget in range(10, 17):
        assert policy.schedule(budget) == graph.schedule(budget)


def test_budgets_reach_as_far_as_the_calibration(make_table: MakeTable) -> None:
    assert str(OTCachePolicy(ANCHOR, REFERENCE).budgets) == "3 … 9, or 17"
    assert str(OTCachePolicy(ANCHOR, REFERENCE, edges=make_table(17)).budgets) == "3 … 17"


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        (2, "below the smallest budget 3 of policy 'otcache'"),
        (10, "above the largest budget 9 of policy 'otcache'"),
        (18, "above the 17 steps of the run"),
        (5.0, "an integer is needed, not float"),
    ],
)
def test_other_budgets_are_refused_with_the_served_ones(budget: int, problem: str) -> None:
    with pytest.raises(BudgetError) as caught:
        OTCachePolicy(ANCHOR, REFERENCE).schedule(budget)
    assert str(caught.value) == f"budget={budget}: {problem}. Use budget=3 … 9, or 17."


def test_refuses_what_does_not_belong_together(make_table: MakeTable) -> None:
    with pytest.raises(ScheduleError, match=r"anchor=.*is not below"):
        OTCachePolicy(REFERENCE, ANCHOR)
    with pytest.raises(ScheduleError, match=r"reference=.*it has 18 steps"):
        OTCachePolicy(ANCHOR, Schedule.full(18))
    with pytest.raises(EdgeTableError, match="not a table of the schedules' 17 steps"):
        OTCachePolicy(ANCHOR, REFERENCE, edges=make_table(16))
    with pytest.raises(EdgeTableError, match="look_back=9"):
        OTCachePolicy(ANCHOR, REFERENCE, edges=make_table(17), settings=EdgeSettings(look_back=9))
    with pytest.raises(FieldError, match=r"rho=0\.0: not a finite number above 0"):
        OTCachePolicy(ANCHOR, REFERENCE, rho=0.0)


def test_pickling_keeps_the_schedules(make_table: MakeTable) -> None:
    policy = OTCachePolicy(ANCHOR, REFERENCE, edges=make_table(17))
    again = pickle.loads(pickle.dumps(policy))
    for budget in policy.budgets:
        assert again.schedule(budget).to_json() == policy.schedule(budget).to_json()


def test_look_backs_of_published_schedules_survive(
    published: dict[str, dict[int, Schedule]],
) -> None:
    model = published["Tongyi-MAI/Z-Image"]
    policy = OTCachePolicy(model[13], model[25], rho=1.0)
    # At budget 20 the reference is nearer: K = 5 over its segments 17→18→20→22 and 42→45→47.
    assert policy.schedule(20).look_backs == (1,) * 5 + (2, 2, 1, 1, 2, 1, 5, 5, 1, 1, 1, 5, 1, 1)
