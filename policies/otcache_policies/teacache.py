"""TeaCache (arXiv 2411.19108): the first block's modulated input tells when to compute again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from otcache_policies._validation import as_array
from otcache_policies.deciding import MODULATED_INPUT
from otcache_policies.errors import FieldError
from otcache_policies.thresholds import ThresholdPolicy, Thresholds

__all__ = ["DEGREE", "TeaCachePolicy", "fit_coefficients"]

DEGREE = 4
"""Degree of the polynomial from the change of the input to that of the output."""


class TeaCachePolicy(ThresholdPolicy):
    """Computes a step when the estimated changes of the model's output add up to a threshold.

    The estimates are made from how far the first block's input, modulated by the time embedding,
    has changed from step to step. A cached step adds the last residual of the blocks again.

    Args:
        coefficients: Those of the polynomial from that change to the output's, the highest power
            first.
        thresholds: By the budget to aim at.

    Raises:
        FieldError: The coefficients are not finite numbers, or there are none.
    """

    name: ClassVar[str] = "teacache"
    observes: ClassVar[str] = MODULATED_INPUT
    look_back: ClassVar[int] = 1

    def __init__(self, coefficients: Sequence[float], thresholds: Thresholds) -> None:
        remedy = f"Give the {DEGREE + 1} coefficients of a polynomial, the highest power first"
        values = as_array("coefficients", coefficients, FieldError, remedy)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
            raise FieldError("coefficients", coefficients, "not finite numbers", remedy)
        self.coefficients = tuple(values.tolist())
        super().__init__(thresholds)

    def rescale(self, change: float) -> float:
        """Return the polynomial's estimate of how much the output has changed."""
        value = 0.0
        for coefficient in self.coefficients:
            value = value * change + coefficient
        return value


def fit_coefficients(inputs: ArrayLike, outputs: ArrayLike) -> tuple[float, ...]:
    """Fit the polynomial from changes of the input to changes of the output, by least squares.

    Args:
        inputs: Relative changes of the input from one step to the next, of any shape.
        outputs: Those of the model's output, of the same shape.

    Returns:
        The polynomial's coefficients, the highest power first.

    Raises:
        FieldError: There are too few different changes, or some are not finite numbers.
    """
    changes, targets = _changes("inputs", inputs), _changes("outputs", outputs)
    if len(np.unique(changes)) <= DEGREE:
        problem = f"a polynomial of degree {DEGREE} needs more than {DEGREE} different changes"
        raise FieldError("inputs", changes.tolist(), problem, "Record more steps or pairs")
    fitted = np.polynomial.Polynomial.fit(changes, targets, DEGREE).convert().coef
    return tuple(np.pad(fitted, (0, DEGREE + 1 - len(fitted)))[::-1].tolist())


def _changes(field: str, values: ArrayLike) -> NDArray[np.float64]:
    remedy = "Check what the model generates"
    changes = np.ravel(as_array(field, values, FieldError, remedy))
    if not np.isfinite(changes).all():
        raise FieldError(field, changes.tolist(), "not all of the changes are finite", remedy)
    return changes
