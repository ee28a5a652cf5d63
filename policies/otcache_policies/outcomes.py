"""The outcome table: what caching one segment alone does to the outcome of a run.

These are the global outcome-aware edges of LeMiCa (arXiv 2511.00090, Eq. 4): the edge i → j holds
the error of the *final* output when the steps i+1 … j-1 are cached and every other step is
computed. It is measured on real runs, so it knows how the model answers to a displaced state, and
it costs T - j computed steps on each pair of prompt and seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from otcache_policies._validation import as_array, as_int
from otcache_policies.array_values import ArrayValue
from otcache_policies.errors import OutcomeTableError
from otcache_policies.schedule import Schedule, Segment, look_backs_of

__all__ = ["OutcomeTable", "caching_alone", "segments_to_measure", "steps_to_measure"]

_REMEDY = "Pass a (T, T) table of errors"


@dataclass(frozen=True, eq=False)
class OutcomeTable(ArrayValue):
    """Errors of the final output, by the segment that alone was cached.

    The arrays are copied and made read-only. Tables compare by identity.

    Args:
        errors: float32 of shape (T, T), T >= 2: entry [i, j] is the mean absolute error of the last
            latents with i+1 … j-1 cached. 0 where j == i + 1, finite and not negative up to the
            largest gap that was measured, +inf beyond it and where j <= i.
        look_backs: Look-back that each segment was cached with, integers >= 1 of the errors' shape;
            None where it was 1 everywhere: plain reuse of the last velocity.

    Raises:
        OutcomeTableError: Any of this does not hold.
    """

    errors: NDArray[np.float32]
    look_backs: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # What is too large becomes +inf, and is refused as that.
            errors = as_array("errors", self.errors, OutcomeTableError, _REMEDY).astype(np.float32)
        _check_errors(errors)
        self._keep({"errors": errors})
        if self.look_backs is not None:
            self._keep({"look_backs": _as_look_backs(self.look_backs, errors.shape)})

    @property
    def num_inference_steps(self) -> int:
        """Steps of the runs that were measured, T."""
        return len(self.errors)

    @property
    def max_gap(self) -> int:
        """Largest gap of a segment that was measured."""
        return int(np.isfinite(self.errors[0]).nonzero()[0].max())

    @property
    def max_look_back(self) -> int:
        """Largest look-back that a segment was cached with."""
        return 1 if self.look_backs is None else int(self.look_backs.max())

    @property
    def fewest_steps(self) -> int:
        """Computed steps of the shortest path: at least one every `max_gap` steps."""
        return -(-(self.num_inference_steps - 1) // self.max_gap) + 1

    def schedule(self, computed_steps: Sequence[int]) -> Schedule:
        """Return the schedule of these steps, each segment cached as it was measured.

        Raises:
            ScheduleError: The steps are no schedule of this table's steps.
        """
        schedule = Schedule(computed_steps, self.num_inference_steps)
        if self.look_backs is None:
            return schedule
        return schedule.with_look_backs(look_backs_of(schedule.computed_steps, self.look_backs))


def segments_to_measure(num_inference_steps: int, max_gap: int) -> list[tuple[int, int]]:
    """Return the start and the end of every segment with cached steps, up to the largest gap."""
    last = num_inference_steps - 1
    return [
        (start, end)
        for start in range(last - 1)
        for end in range(start + 2, min(start + max_gap, last) + 1)
    ]


def steps_to_measure(num_inference_steps: int, max_gap: int) -> int:
    """Return the steps that are computed for all segments on one pair.

    A run begins at its segment: what lies ahead of it is as in the full run, so a segment that ends
    at step j takes T - j steps.
    """
    segments = segments_to_measure(num_inference_steps, max_gap)
    return sum(num_inference_steps - end for _, end in segments)


def caching_alone(segment: Segment, num_inference_steps: int) -> Schedule:
    """Return the schedule that caches the steps of one segment, and computes every other one.

    Raises:
        ScheduleError: The segment does not lie in a run of so many steps.

    Examples:
        >>> caching_alone(Segment(1, 4, look_back=2), 6).computed_steps
        (0, 1, 4, 5)
    """
    steps = [*range(segment.start + 1), *range(segment.end, num_inference_steps)]
    looks = [segment.look_back if start == segment.start else 1 for start in steps[:-1]]
    return Schedule(steps, num_inference_steps, looks)


def _check_errors(errors: NDArray[np.float32]) -> None:
    if errors.ndim != 2 or errors.shape[0] != errors.shape[1] or len(errors) < 2:
        raise OutcomeTableError("errors", errors.shape, "not of shape (T, T), T >= 2", _REMEDY)
    start, end = np.indices(errors.shape)
    gap, measured = end - start, np.isfinite(errors) & (errors >= 0)
    largest = int(np.where(measured, gap, 1).max())
    rules = (
        (gap <= 0, errors == np.inf, "must be +inf, there is no edge", "Set j <= i to +inf"),
        (gap == 1, errors == 0, "must be 0, nothing is cached", "Set gap-1 edges to 0"),
        ((gap > 1) & (gap <= largest), measured, "not finite and >= 0", "Measure it"),
        (gap > largest, errors == np.inf, "not +inf beyond what was measured", "Set it to +inf"),
    )
    for where, valid, problem, remedy in rules:
        wrong = np.argwhere(where & ~valid)
        if len(wrong):
            i, j = (int(index) for index in wrong[0])
            raise OutcomeTableError(f"errors[{i}, {j}]", float(errors[i, j]), problem, remedy)


def _as_look_backs(value: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    remedy = "Pass one look-back of 1 … 255 per segment"
    numbers = np.array(value)
    if numbers.shape != shape:
        raise OutcomeTableError("look_backs", numbers.shape, f"not of the shape {shape}", remedy)
    smallest, largest = (
        as_int("look_backs", each, OutcomeTableError, remedy)
        for each in (numbers.min(), numbers.max())
    )
    if smallest < 1 or largest > np.iinfo(np.uint8).max:
        problem = f"from {smallest} to {largest}"
        raise OutcomeTableError("look_backs", numbers.shape, problem, remedy)
    return numbers.astype(np.uint8)
