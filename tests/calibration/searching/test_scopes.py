"""Searches of all pairs at once and of every pair alone: whom they run, and what comes of them."""

from __future__ import annotations

import pytest
from otcache_policies import Schedule, wasserstein_barycentre

from otcache_plugin.calibration.searching.candidates import Panel, ScheduleSearch, Trial
from otcache_plugin.calibration.searching.scopes import JointSearch, PerPairSearch, mean_history
from otcache_plugin.evaluation.batches import Batch, batches_of

NAN, INF = float("nan"), float("inf")
BATCHES = batches_of("calibration", 9, 2)


def test_all_pairs_are_searched_at_once() -> None:
    # Of five batches a candidate is run on two first.
    assert JointSearch().panels("the anchor", BATCHES) == {"the anchor": Panel(BATCHES, 2)}


def test_every_pair_is_searched_alone() -> None:
    assert PerPairSearch().panels("the anchor", BATCHES[:2]) == {
        f"the anchor, pair {pair}": Panel((Batch("calibration", pair, pair + 1),), 1)
        for pair in range(4)
    }


def test_of_a_joint_search_comes_its_best() -> None:
    found = search(((0, 1, 8), 3.0), ((0, 2, 8), 1.0), ((0, 3, 8), 2.0))
    warm_start = Schedule([0, 4, 8], 9)
    pool = JointSearch().pool([found], warm_start, lambda steps: (2, 3))
    assert pool == [Schedule([0, 2, 8], 9)]


def search(*trials: tuple[tuple[int, ...], float]) -> ScheduleSearch:
    """A search from (0, 4, 8), of loss 5."""
    found = [Trial(Schedule(steps, 9), loss) for steps, loss in trials]
    return ScheduleSearch(Trial(Schedule([0, 4, 8], 9), 5.0), tuple(found), ())


def test_a_pool_has_what_every_pair_found() -> None:
    searches = [
        search(((0, 1, 8), 3.0), ((0, 2, 8), 1.0), ((0, 3, 8), 2.0)),
        search(((0, 6, 8), 4.0), ((0, 7, 8), 9.0)),
        search(((0, 2, 8), 4.0)),
    ]
    warm_start = Schedule([0, 4, 8], 9)
    pool = PerPairSearch().pool(searches, warm_start, lambda steps: (2, 3))
    best = [Schedule([0, step, 8], 9) for step in (2, 6, 2)]
    mean = Schedule(wasserstein_barycentre(best, 3), 9, [2, 3])
    assert mean.computed_steps == (0, 3, 8)
    # The second pair found nothing besides that is as good as the warm start, the third neither.
    assert pool == [warm_start, mean, *(Schedule([0, step, 8], 9) for step in (2, 3, 6))]


@pytest.mark.parametrize("start", [5.0, INF])
def test_a_pair_without_a_finite_loss_has_no_say(start: float) -> None:
    warm_start = Schedule([0, 4, 8], 9)
    failed = ScheduleSearch(Trial(warm_start, INF), (Trial(Schedule([0, 7, 8], 9), INF),), ())
    assert PerPairSearch().pool([failed], warm_start, lambda steps: (2, 3)) == [warm_start]
    of_pair = ScheduleSearch(
        Trial(warm_start, start),
        (Trial(Schedule([0, 1, 8], 9), INF), Trial(Schedule([0, 2, 8], 9), 1.0)),
        (),
    )
    pool = PerPairSearch().pool([failed, of_pair], warm_start, lambda steps: (1, 1))
    assert pool == [warm_start, Schedule([0, 2, 8], 9)]


def history(*losses: float) -> ScheduleSearch:
    return ScheduleSearch(Trial(Schedule([0, 4, 8], 9), losses[0]), (), losses)


def test_a_history_is_the_mean_over_searches() -> None:
    assert mean_history([history(4.0, 2.0, 1.0), history(8.0)]) == (6.0, 5.0, 4.5)


def test_a_history_has_no_loss_that_is_not_finite() -> None:
    # The second begins at its first finite loss, the third has none.
    searches = [history(4.0, 2.0, 1.0), history(INF, INF, 3.0), history(INF, INF)]
    assert mean_history(searches) == (3.5, 2.5, 2.0)
    assert mean_history(searches[2:]) == ()
