"""Checks that several modules share: of integers, of other numbers and of arrays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from otcache_policies.errors import FieldError

__all__ = ["as_array", "as_count", "as_int", "as_number", "as_positive"]


def as_int(field: str, value: object, error: type[FieldError], remedy: str) -> int:
    """Return a Python or numpy integer as `int`; refuse everything else, bools included."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise error(field, value, f"an integer is needed, not {type(value).__name__}", remedy)
    return int(value)


def as_count(
    field: str, value: object, error: type[FieldError], remedy: str = "Use 1 or more"
) -> int:
    """Return an integer of 1 or more as `int`."""
    count = as_int(field, value, error, remedy)
    if count < 1:
        raise error(field, count, "below 1", remedy)
    return count


def as_number(field: str, value: object, error: type[FieldError], remedy: str) -> float:
    """Return a Python or numpy number as `float`; refuse everything else, bools included."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise error(field, value, f"a number is needed, not {type(value).__name__}", remedy)
    return float(value)


def as_positive(field: str, value: object, error: type[FieldError], remedy: str) -> float:
    """Return a finite number above 0 as `float`."""
    number = as_number(field, value, error, remedy)
    if not math.isfinite(number) or number <= 0:
        raise error(field, value, "not a finite number above 0", remedy)
    return number


def as_array(
    field: str, value: ArrayLike, error: type[FieldError], remedy: str
) -> NDArray[np.float64]:
    """Return numbers as a float64 copy; refuse what are none."""
    try:
        # A signalling NaN in a stranger's file warns when it is cast; the callers refuse it.
        with np.errstate(invalid="ignore"):
            return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise error(field, value, "not an array of numbers", remedy) from None
