"""One loss of many pairs, and the lowest of several: a loss that is not finite never wins."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from otcache_policies import Schedule

from otcache_plugin.calibration.errors import NotFiniteError
from otcache_plugin.calibration.measuring.losses import ScheduleLoss, differences, lowest, pooled

NAN, INF = float("nan"), float("inf")
NOT_FINITE = pytest.mark.parametrize("failed", [NAN, INF, -INF])


def loss_of(*losses: float, step: int = 4) -> ScheduleLoss:
    return ScheduleLoss(Schedule([0, step, 8], 9), "psnr", np.array(losses))


def test_the_mean_is_without_the_best_and_the_worst() -> None:
    losses = np.array([1000.0, *range(1, 19), -1000.0])  # 5 % of twenty is one at either end.
    assert pooled(losses) == 9.5
    assert pooled(losses[1:-1]) == 9.5  # Of eighteen none is left out.


@NOT_FINITE
def test_a_loss_that_is_not_finite_is_not_trimmed_away(failed: float) -> None:
    losses = np.arange(20.0)
    for place in (0, 10, 19):
        spoilt = losses.copy()
        spoilt[place] = failed
        assert pooled(spoilt) == INF


@NOT_FINITE
def test_the_lowest_is_finite(failed: float) -> None:
    good, better = loss_of(3.0, 1.0), loss_of(1.0, 2.0)
    assert lowest([[loss_of(failed, -9.0)], [good], [better], [loss_of(-9.0, failed)]]) == 2
    assert lowest([[good], [good], [loss_of(failed, 0.0)]]) == 0
    # One schedule of a candidate is enough, whatever the others lose.
    assert lowest([[loss_of(-100.0, -100.0), loss_of(failed, 0.0)], [good, good]]) == 1


@NOT_FINITE
def test_where_none_is_finite_metric_schedule_and_pairs_are_named(failed: float) -> None:
    fine, spoilt = loss_of(1.0, 1.0, 1.0), loss_of(failed, 1.0, failed, step=3)
    with pytest.raises(NotFiniteError) as caught:
        lowest([[fine, spoilt], [spoilt, fine]])
    assert (caught.value.field, caught.value.value) == ("metric", "psnr")
    assert "the 4 schedules that were run leave no choice" in str(caught.value)
    assert "(0, 3, 8) with look-backs (1, 1) is not finite at the pairs 0, 2 of 0 … 2" in str(
        caught.value
    )


@NOT_FINITE
def test_differences_to_what_is_not_finite_keep_the_order(failed: float) -> None:
    baseline = np.array([2.0, failed])
    candidates = [np.array([1.0, 5.0]), np.array([2.5, 5.5]), np.array([9.0, 0.0])]
    found = [pooled(differences(each, baseline)) for each in candidates]
    assert found == [2.0, 3.0, 3.5]
    assert all(
        one < other
        for (one, other), (first, second) in zip(
            pairwise(found), pairwise(map(np.mean, candidates)), strict=True
        )
        if first < second
    )
    assert pooled(differences(np.array([failed, 1.0]), baseline)) == INF
