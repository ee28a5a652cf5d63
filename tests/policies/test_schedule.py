"""Schedules: what is accepted, what is refused and why, and what they know about themselves."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from otcache_policies import Schedule, ScheduleError, Segment

SMALL = Schedule([0, 1, 4, 6], 7, [1, 3, 2])


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    total = draw(st.integers(2, 60))
    inner = draw(st.sets(st.integers(0, total - 1)))
    steps = sorted(inner | {0, total - 1})
    look_backs = draw(st.lists(st.integers(1, 6), min_size=len(steps) - 1, max_size=len(steps) - 1))
    return Schedule(steps, total, look_backs)


def test_knows_its_parts() -> None:
    assert SMALL.computed_steps == (0, 1, 4, 6)
    assert SMALL.look_backs == (1, 3, 2)
    assert SMALL.budget == 4
    assert SMALL.gaps == (1, 3, 2)
    assert SMALL.mask == (True, True, False, False, True, False, True)
    assert SMALL.segments == (Segment(0, 1, 1), Segment(1, 4, 3), Segment(4, 6, 2))
    assert [segment.gap for segment in SMALL.segments] == [1, 3, 2]
    assert SMALL.speedup == 7 / 4


def test_answers_for_single_steps() -> None:
    assert [SMALL.is_computed(step) for step in range(7)] == list(SMALL.mask)
    assert {step: SMALL.look_back_at(step) for step in (2, 3, 5)} == {2: 3, 3: 3, 5: 2}


@pytest.mark.parametrize("step", [-1, 7, True, 2.0])
def test_refuses_steps_that_the_run_does_not_have(step: int) -> None:
    with pytest.raises(ScheduleError, match=r"step=.*Use a step 0 … 6\."):
        SMALL.is_computed(step)
    with pytest.raises(ScheduleError, match=r"step=.*Use a step 0 … 6\."):
        SMALL.look_back_at(step)


def test_a_computed_step_has_no_look_back() -> None:
    with pytest.raises(ScheduleError, match="step=4: this step is computed"):
        SMALL.look_back_at(4)


def test_look_backs_default_to_one() -> None:
    assert Schedule([0, 3, 5], 6).look_backs == (1, 1)
    assert Schedule([0, 3, 5], 6).with_look_backs([2, 4]) == Schedule([0, 3, 5], 6, [2, 4])


def test_numpy_integers_become_plain_ones() -> None:
    schedule = Schedule(np.array([0, 2, 4]), np.int64(5), np.array([1, 2], dtype=np.int32))
    assert schedule == Schedule([0, 2, 4], 5, [1, 2])
    assert {type(step) for step in schedule.computed_steps + schedule.look_backs} == {int}
    assert type(schedule.num_inference_steps) is int


@pytest.mark.parametrize("total", [1, 2, 50])
def test_full_computes_every_step(total: int) -> None:
    assert Schedule.full(total).computed_steps == tuple(range(total))
    assert Schedule.full(total).speedup == 1


def test_one_step_is_a_schedule_without_segments() -> None:
    assert Schedule([0], 1) == Schedule.full(1) == Schedule.from_gaps([])
    assert Schedule([0], 1).segments == ()


@given(schedules())
def test_gaps_and_text_give_the_schedule_back(schedule: Schedule) -> None:
    assert sum(schedule.gaps) == schedule.num_inference_steps - 1
    assert sum(schedule.mask) == schedule.budget
    assert Schedule.from_gaps(schedule.gaps, schedule.look_backs) == schedule
    assert Schedule.from_dict(schedule.to_dict()) == schedule
    text = schedule.to_json()
    assert Schedule.from_json(text) == schedule
    assert Schedule.from_json(text).to_json() == text
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert hash(pickle.loads(pickle.dumps(schedule))) == hash(schedule)


def test_json_is_stable_to_the_byte() -> None:
    assert SMALL.to_json() == (
        '{"computed_steps":[0,1,4,6],"look_backs":[1,3,2],"num_inference_steps":7}'
    )


@pytest.mark.parametrize(
    ("steps", "total", "look_backs", "field", "problem"),
    [
        ([1, 4], 5, None, "computed_steps", "step 0 must be computed"),
        ([0, 3], 5, None, "computed_steps", "step 4 must be computed"),
        ([], 5, None, "computed_steps", "step 0 must be computed"),
        ([0, 2, 2, 4], 5, None, "computed_steps", "step 2 follows step 2"),
        ([0, 3, 1, 4], 5, None, "computed_steps", "step 1 follows step 3"),
        ([0, 5], 5, None, "computed_steps", "step 5 is outside 0 … 4"),
        ([-1, 0, 4], 5, None, "computed_steps", "step -1 is outside 0 … 4"),
        ([0, 2.0, 4], 5, None, "computed_steps", "an integer is needed, not float"),
        ([0, True, 4], 5, None, "computed_steps", "an integer is needed, not bool"),
        ("04", 5, None, "computed_steps", "an integer is needed, not str"),
        (4, 5, None, "computed_steps", "not a sequence of integers"),
        ([0], 0, None, "num_inference_steps", "at least one step"),
        ([0, 4], 5.0, None, "num_inference_steps", "an integer is needed, not float"),
        ([0, 4], True, None, "num_inference_steps", "an integer is needed, not bool"),
        ([0, 4], 5, [], "look_backs", "0 look-backs for 1 segments"),
        ([0, 4], 5, [1, 1], "look_backs", "2 look-backs for 1 segments"),
        ([0, 4], 5, [0], "look_backs", "a look-back is below 1"),
        ([0, 4], 5, [1.5], "look_backs", "an integer is needed, not float"),
        ([0, 4], 5, [np.bool_(True)], "look_backs", "an integer is needed"),
    ],
)
def test_refuses_what_is_no_schedule(
    steps: list[int], total: int, look_backs: list[int] | None, field: str, problem: str
) -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule(steps, total, look_backs)
    assert caught.value.field == field
    assert problem in str(caught.value)
    assert caught.value.remedy


def test_from_gaps_refuses_gaps_below_one() -> None:
    with pytest.raises(ScheduleError, match=r"gaps=\(1, 0, 2\): a gap is below 1"):
        Schedule.from_gaps([1, 0, 2])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"extra": 1}, "unknown key 'extra'"),
        ({"look_backs": None}, "not a sequence"),
        ({"computed_steps": [0, True, 6]}, "not bool"),
        ({"num_inference_steps": 7.0}, "not float"),
    ],
)
def test_from_dict_is_strict(change: dict[str, object], problem: str) -> None:
    with pytest.raises(ScheduleError, match=problem):
        Schedule.from_dict(SMALL.to_dict() | change)


@pytest.mark.parametrize("key", ["computed_steps", "look_backs", "num_inference_steps"])
def test_from_dict_needs_every_key(key: str) -> None:
    data = SMALL.to_dict()
    del data[key]
    with pytest.raises(ScheduleError, match=f"key '{key}' is missing"):
        Schedule.from_dict(data)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", json.dumps({"computed_steps": [0]})])
def test_from_json_refuses_other_text(text: str) -> None:
    with pytest.raises(ScheduleError, match="schedule="):
        Schedule.from_json(text)


def as_done(schedule: Schedule, step: int) -> int | None:
    """The past steps that an estimate spans, None at a computed step."""
    if schedule.is_computed(step):
        return None
    return min(schedule.look_back_at(step), step)


@given(schedules())
def test_windows_are_the_look_backs_of_cached_steps(schedule: Schedule) -> None:
    expected = [as_done(schedule, step) or 0 for step in range(schedule.num_inference_steps)]
    assert schedule.windows == tuple(expected)


@given(schedules(), schedules())
def test_what_two_schedules_share_is_their_beginning(one: Schedule, other: Schedule) -> None:
    total, shared = one.num_inference_steps, []
    if other.num_inference_steps == total:
        for step in range(total):
            if as_done(one, step) != as_done(other, step):
                break
            shared += [step] if one.is_computed(step) else []
    assert one.shared_steps(other) == other.shared_steps(one) == tuple(shared)
    assert one.shared_steps(one) == one.computed_steps


def test_where_two_schedules_part() -> None:
    one = Schedule([0, 1, 4, 6, 9], 10, [1, 2, 1, 2])
    assert one.shared_steps(Schedule([0, 1, 4, 7, 9], 10, [1, 2, 1, 2])) == (0, 1, 4)
    assert one.shared_steps(Schedule([0, 1, 4, 6, 9], 10, [1, 2, 1, 3])) == (0, 1, 4, 6)
    assert one.shared_steps(Schedule([0, 1, 4, 6, 9], 10, [1, 1, 1, 2])) == (0, 1)
    # Before step 2 there are two steps to look back on, before step 3 three.
    assert one.shared_steps(Schedule([0, 1, 3, 6, 9], 10, [1, 3, 1, 2])) == (0, 1)
    long, longer = Schedule([0, 1, 3, 9], 10, [1, 3, 1]), Schedule([0, 1, 3, 9], 10, [1, 5, 1])
    assert long.shared_steps(longer) == (0, 1, 3, 9)
    # A segment without a cached step has no use for its look-back.
    assert one.shared_steps(Schedule([0, 1, 4, 6, 9], 10, [4, 2, 1, 2])) == one.computed_steps
    assert one.shared_steps(Schedule([0, 1, 4, 6, 10], 11)) == ()
