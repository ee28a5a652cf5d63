"""When two noise schedules are the same one."""

from __future__ import annotations

import numpy as np
import pytest
from otcache_policies import same_sigmas

SIGMAS = np.linspace(1.0, 0.0, 51)


def test_what_float32_rounds_is_the_same() -> None:
    assert not np.array_equal(SIGMAS.astype(np.float32), SIGMAS)
    assert same_sigmas(SIGMAS.astype(np.float32), SIGMAS)


@pytest.mark.parametrize(("difference", "same"), [(9e-7, True), (2e-6, False), (5e-5, False)])
def test_one_level_that_differs(difference: float, same: bool) -> None:
    other = SIGMAS.copy()
    other[17] += difference
    assert same_sigmas(SIGMAS, other) == same_sigmas(other, SIGMAS) == same


def test_another_number_of_steps_is_another_schedule() -> None:
    assert not same_sigmas(SIGMAS, SIGMAS[1:])
    assert not same_sigmas([1.0, 0.0], [1.0])  # which numpy would compare level by level
    assert not same_sigmas(SIGMAS, np.full(51, np.nan))
