"""What a family of predictions is determined by, and its neighbours, by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from otcache_policies import EdgeSettings, EdgeTable, OTCachePolicy, Schedule, predict

from otcache_plugin.calibration.predicting import Predicting, predicting_coordinates
from otcache_plugin.calibration.tuning import RHOS

STATE = Predicting((0, 2, 5, 9), (1, 2, 3), 1.1)


def neighbours(state: Predicting = STATE, max_look_back: int = 3) -> list[list[Predicting]]:
    return [others(state) for others in predicting_coordinates(3, max_look_back)]


def test_look_backs_take_every_other_value() -> None:
    assert [[each.look_backs for each in others] for others in neighbours()[:3]] == [
        [(2, 2, 3), (3, 2, 3)],
        [(1, 1, 3), (1, 3, 3)],
        [(1, 2, 1), (1, 2, 2)],
    ]


def test_inner_steps_move_between_their_neighbours() -> None:
    assert [[each.computed_steps for each in others] for others in neighbours()[3:5]] == [
        [(0, 1, 5, 9), (0, 3, 5, 9), (0, 4, 5, 9)],
        [(0, 2, 3, 9), (0, 2, 4, 9), (0, 2, 6, 9), (0, 2, 7, 9)],
    ]


@pytest.mark.parametrize(
    ("rho", "others"),
    [
        (1.1, [1.0, 1.05, 1.15, 1.2]),
        (0.8, [0.85, 0.9]),
        (0.85, [0.8, 0.9, 0.95]),
        (1.3, [1.2, 1.25]),
    ],
)
def test_rho_moves_along_what_is_tried(rho: float, others: list[float]) -> None:
    found = neighbours(replace(STATE, rho=rho))[-1]
    assert [each.rho for each in found] == others
    assert set(others) < set(RHOS)


def test_a_neighbour_differs_in_nothing_else() -> None:
    families = neighbours()
    assert len(families) == 3 + 2 + 1
    changed = ["look_backs"] * 3 + ["computed_steps"] * 2 + ["rho"]
    for name, others in zip(changed, families, strict=True):
        assert others
        for other in others:
            assert replace(other, **{name: getattr(STATE, name)}) == STATE != other


def test_where_nothing_can_move_there_are_no_neighbours() -> None:
    packed = Predicting((0, 1, 2, 3), (1, 1, 1), 1.0)
    assert [len(others) for others in neighbours(packed, 1)] == [0, 0, 0, 0, 0, 4]


def test_the_policy_has_them_in_their_places(
    random_table: Callable[[int, int], EdgeTable],
) -> None:
    table, settings = random_table(10, 0), EdgeSettings("displacement", 2.0)
    reference = Schedule([0, 1, 2, 4, 6, 9], 10, [1, 1, 2, 2, 1])
    template = OTCachePolicy(Schedule([0, 1, 4, 9], 10), reference, 0.8, table, settings)
    policy = STATE.policy(template)
    assert policy == OTCachePolicy(
        Schedule([0, 2, 5, 9], 10, [1, 2, 3]), reference, 1.1, table, settings, (1, 2, 3)
    )
    assert policy.schedule(4) == Schedule([0, 2, 5, 9], 10, [1, 2, 3])
    assert policy.schedule(5).computed_steps == predict(policy.anchor, reference, 5, 1.1)
    assert policy.schedule(6) == reference
    assert template.look_backs is None
