"""Checks that several modules share: plain integers, positive numbers and arrays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from otcache_policies.errors import FieldError

__all__ = ["as_array", "as_int", "as_positive"]


def as_int(field: str, value: object, error: type[FieldError], remedy: str) -> int:
    """Return a Python or numpy integer as `int`; refuse everything else, bools included."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise error(field, value, f"an integer is needed, not {type(value).__name__}", remedy)
    return int(value)


def as_positive(field: str, value: object, error: type[FieldError], remedy: str) -> float:
    """Return a finite number above zero as `float`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise error(field, value, f"a number is needed, not {type(value).__name__}", remedy)
    if not math.isfinite(value) or value <= 0:
        raise error(field, value, "not a finite number above 0", remedy)
    return float(value)


def as_array(
    field: str, value: ArrayLike, error: type[FieldError], remedy: str
) -> NDArray[np.float64]:
    """Return numbers as a float64 copy."""
    try:
        # A signalling NaN in a stranger's file warns when it is cast; the callers refuse it.
        with np.errstate(invalid="ignore"):
            return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise error(field, value, "not an array of numbers", remedy) from None
