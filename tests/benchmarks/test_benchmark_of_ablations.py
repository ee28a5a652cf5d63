"""The parts of the benchmark of the paper's ablations that can be checked by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from example_documents import edges_of
from otcache_policies import EdgeSettings, MeanCachePolicy, Schedule

from benchmarks import ablations
from benchmarks.ablations import Bench, Searched
from otcache_plugin.calibration.searching.candidates import ScheduleSearch, Trial
from otcache_plugin.calibration.searching.scopes import PerPairSearch

GRAPH = MeanCachePolicy(edges_of(50), EdgeSettings("velocity", 2.0, None))


def trial(loss: float, *inner: int) -> Trial:
    return Trial(Schedule([0, *inner, 49], 50), loss)


START = trial(-30.0, 10, 20)
SEARCHED = Searched(
    (START.schedule, START.schedule),
    (
        ScheduleSearch(START, (trial(-33.0, 8, 20), trial(-36.0, 7, 21)), (-30.0, -33.0, -36.0)),
        ScheduleSearch(START, (trial(-32.0, 9, 30), trial(-29.0, 3, 4)), (-30.0, -32.0, -32.0)),
    ),
    100,
)


def test_the_best_of_the_pairs_are_averaged_by_their_rank() -> None:
    # 36, 33 and the start's 30; 32 and the start's 30, which is the last that was no worse.
    assert SEARCHED.tops() == pytest.approx([34.0, 31.5, 30.0, 30.0, 30.0])
    assert SEARCHED.trials_until_best() == [2, 1]


def test_a_pool_of_two_is_the_procedures_own() -> None:
    def look_backs(steps: tuple[int, ...]) -> tuple[int, ...]:
        return GRAPH.edges.look_backs(steps, GRAPH.settings)

    own = PerPairSearch().pool(SEARCHED.found, START.schedule, look_backs)
    assert SEARCHED.pool(2, GRAPH) == own
    (only_best,) = {*own} - {*SEARCHED.pool(1, GRAPH)}
    assert only_best.computed_steps == (0, 8, 20, 49)


def test_every_pair_begins_at_random_steps_of_its_own() -> None:
    bench = Bench(cast("Any", None), cast("Any", SimpleNamespace()), GRAPH)
    starts = bench.starts(ablations.RANDOM, 8)
    assert starts == bench.starts(ablations.RANDOM, 8)
    assert len(set(starts)) == ablations.PAIRS
    for each in starts:
        assert (each.budget, each.num_inference_steps) == (8, 50)
        assert each.look_backs == GRAPH.edges.look_backs(each.computed_steps, GRAPH.settings)
    (even,) = {*bench.starts(ablations.UNIFORM, 8)}
    assert even.computed_steps == (0, 7, 14, 21, 28, 35, 42, 49)
