"""Noise schedules: what is one, and when two of them are the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from otcache_policies._validation import as_array
from otcache_policies.errors import FieldError

__all__ = ["SAME_SIGMAS", "as_sigmas", "same_sigmas"]

SAME_SIGMAS = 1e-6
"""Largest difference of two equal noise schedules: schedulers compute them in float32, whose
rounding near 1 is 6e-8, and documents of others may write them with six digits."""


def as_sigmas(
    field: str, value: ArrayLike, num_inference_steps: int | None, error: type[FieldError]
) -> NDArray[np.float64]:
    """Return a noise schedule as a float64 copy of shape (T+1,), strictly decreasing and finite.

    Without `num_inference_steps` any length of at least two will do. Whatever is not one is refused
    with an error of the given class.
    """
    remedy = "Pass the scheduler's sigmas as the pipeline set them, one more than there are steps"
    sigmas = as_array(field, value, error, remedy)
    if sigmas.ndim != 1 or sigmas.size < 2:
        raise error(field, value, f"shape {sigmas.shape} is not that of a noise schedule", remedy)
    if num_inference_steps is not None and sigmas.size != num_inference_steps + 1:
        expected = f"{num_inference_steps + 1} for {num_inference_steps} steps"
        raise error(field, value, f"{sigmas.size} entries, not {expected}", remedy)
    if not np.isfinite(sigmas).all() or not (np.diff(sigmas) < 0).all():
        raise error(field, value, "not finite and strictly decreasing", remedy)
    return sigmas


def same_sigmas(one: ArrayLike, other: ArrayLike) -> bool:
    """Return whether two noise schedules are the same one, but for rounding (`SAME_SIGMAS`)."""
    ours, theirs = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=0, atol=SAME_SIGMAS)
