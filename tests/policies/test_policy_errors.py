"""Errors name the field, the value, the problem and the remedy, and survive pickling."""

from __future__ import annotations

import pickle

import pytest
from otcache_policies import (
    BudgetError,
    EdgeTableError,
    FieldError,
    OTCacheError,
    ScheduleError,
)

KINDS = [FieldError, ScheduleError, BudgetError, EdgeTableError]


@pytest.mark.parametrize("kind", KINDS)
def test_message_reads_as_a_sentence(kind: type[FieldError]) -> None:
    error = kind("budget", 3, "below the smallest budget 8", "Use budget=8 … 20, or 50")
    assert str(error) == "budget=3: below the smallest budget 8. Use budget=8 … 20, or 50."
    assert isinstance(error, OTCacheError)
    assert isinstance(error, ValueError)


def test_a_full_stop_in_the_remedy_is_not_doubled() -> None:
    assert str(FieldError("rho", 0, "bad", "Use 1.3.")) == "rho=0: bad. Use 1.3."


@pytest.mark.parametrize("kind", KINDS)
def test_pickling_keeps_kind_and_parts(kind: type[FieldError]) -> None:
    error = kind("computed_steps", (0, 2), problem="problem", remedy="remedy")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.field, again.value) == ("computed_steps", (0, 2))
    assert (again.problem, again.remedy) == ("problem", "remedy")
    assert str(again) == str(error)


def test_a_long_value_is_cut_in_the_message_only() -> None:
    error = FieldError("x", list(range(1000)), "problem", "remedy")
    assert len(str(error)) < 250
    assert len(error.value) == 1000
