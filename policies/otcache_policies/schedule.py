"""Schedules: which steps of a run are computed, and how far back each segment looks.

A schedule is the increasing list of computed steps; the first and the last step are always in it,
every other step is cached. Two neighbouring computed steps bound a segment: the steps between them
are cached and share one look-back, the number of past steps that the average-velocity estimate of
MeanCache (arXiv 2601.19961) spans.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from numpy.typing import NDArray
from otcache_policies._validation import as_int
from otcache_policies.errors import ScheduleError

__all__ = ["Schedule", "Segment", "look_backs_of"]


@dataclass(frozen=True)
class Segment:
    """Two neighbouring computed steps and what lies between them.

    Attributes:
        start: Computed step that the segment begins with.
        end: The next computed step.
        look_back: Past steps that the estimate spans on the cached steps start+1 … end-1.
    """

    start: int
    end: int
    look_back: int

    @property
    def gap(self) -> int:
        """Steps from `start` to `end`: one more than the segment has cached steps."""
        return self.end - self.start


@dataclass(frozen=True, init=False)
class Schedule:
    """The computed steps of a run of `num_inference_steps` steps.

    Look-backs are those of [MeanCache](https://arxiv.org/abs/2601.19961).

    Args:
        computed_steps: Strictly increasing steps from 0 to num_inference_steps - 1, both included.
        num_inference_steps: Steps of the run, T >= 1.
        look_backs: One look-back >= 1 per segment, that is one fewer than computed steps;
            1 everywhere when left out. A segment of gap 1 has no cached step and its look-back
            no effect.

    Raises:
        ScheduleError: Any of this does not hold.

    Examples:
        >>> schedule = Schedule([0, 1, 3, 7, 9], num_inference_steps=10, look_backs=[1, 1, 2, 1])
        >>> schedule.budget, schedule.speedup, schedule.gaps
        (5, 2.0, (1, 2, 4, 2))
        >>> print(schedule.segments[2])
        Segment(start=3, end=7, look_back=2)
    """

    computed_steps: tuple[int, ...]
    num_inference_steps: int
    look_backs: tuple[int, ...]

    def __init__(
        self,
        computed_steps: Sequence[int],
        num_inference_steps: int,
        look_backs: Sequence[int] | None = None,
    ) -> None:
        total = as_int(
            "num_inference_steps", num_inference_steps, ScheduleError, "Give the steps of the run"
        )
        if total < 1:
            raise ScheduleError(
                "num_inference_steps", total, "a run has at least one step", "Use 1 or more"
            )
        steps = _integers("computed_steps", computed_steps)
        _check_steps(steps, total)
        if look_backs is None:
            chosen = (1,) * (len(steps) - 1)
        else:
            chosen = _integers("look_backs", look_backs)
            _check_look_backs(chosen, len(steps) - 1)
        object.__setattr__(self, "computed_steps", steps)
        object.__setattr__(self, "num_inference_steps", total)
        object.__setattr__(self, "look_backs", chosen)

    @classmethod
    def full(cls, num_inference_steps: int) -> Schedule:
        """Return the schedule that computes every step.

        Raises:
            ScheduleError: The number of steps is not an integer >= 1.
        """
        total = as_int(
            "num_inference_steps", num_inference_steps, ScheduleError, "Give the steps of the run"
        )
        return cls(range(total), total)

    @classmethod
    def from_gaps(cls, gaps: Sequence[int], look_backs: Sequence[int] | None = None) -> Schedule:
        """Return the schedule whose segments have these gaps; the run has sum(gaps) + 1 steps.

        Raises:
            ScheduleError: A gap is not an integer >= 1, or the look-backs do not fit.
        """
        widths = _integers("gaps", gaps)
        if any(gap < 1 for gap in widths):
            raise ScheduleError("gaps", widths, "a gap is below 1", "Use gaps of 1 or more")
        steps = list(accumulate(widths, initial=0))
        return cls(steps, steps[-1] + 1, look_backs)

    @property
    def budget(self) -> int:
        """Number of computed steps."""
        return len(self.computed_steps)

    @property
    def gaps(self) -> tuple[int, ...]:
        """Distances between neighbouring computed steps; they sum to T - 1."""
        return tuple(end - start for start, end in pairwise(self.computed_steps))

    @property
    def mask(self) -> tuple[bool, ...]:
        """One entry per step, True where the step is computed."""
        computed = set(self.computed_steps)
        return tuple(step in computed for step in range(self.num_inference_steps))

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments in order, `budget` - 1 of them."""
        bounds = pairwise(self.computed_steps)
        return tuple(
            Segment(start, end, look_back)
            for (start, end), look_back in zip(bounds, self.look_backs, strict=True)
        )

    @property
    def windows(self) -> tuple[int, ...]:
        """Past steps that each step's estimate spans, 0 where the step is computed.

        A look-back that is longer than the run so far spans all of it.
        """
        spans = [0] * self.num_inference_steps
        for segment in self.segments:
            for step in range(segment.start + 1, segment.end):
                spans[step] = min(segment.look_back, step)
        return tuple(spans)

    @property
    def speedup(self) -> float:
        """T / budget: the limit of the speed-up, reached if cached steps cost nothing."""
        return self.num_inference_steps / self.budget

    def is_computed(self, step: int) -> bool:
        """Return whether the transformer runs at a step.

        Raises:
            ScheduleError: The run has no such step.
        """
        return self._require_step(step) in self.computed_steps

    def look_back_at(self, step: int) -> int:
        """Return the look-back of the segment that a cached step lies in.

        Raises:
            ScheduleError: The run has no such step, or the step is computed.
        """
        step = self._require_step(step)
        for segment in self.segments:
            if segment.start < step < segment.end:
                return segment.look_back
        raise ScheduleError(
            "step", step, "this step is computed, it has no look-back", "Ask for a cached step"
        )

    def shared_steps(self, other: Schedule) -> tuple[int, ...]:
        """Return the computed steps ahead of the first step that another schedule does otherwise.

        Up to there a run of the same model from the same noise is the same with both.

        Examples:
            >>> Schedule([0, 1, 4, 9], 10).shared_steps(Schedule([0, 1, 5, 9], 10))
            (0, 1)
        """
        if self.num_inference_steps != other.num_inference_steps:
            return ()
        pairs = enumerate(zip(self.windows, other.windows, strict=True))
        end = next((step for step, (own, others) in pairs if own != others), None)
        return tuple(step for step in self.computed_steps if end is None or step < end)

    def with_look_backs(self, look_backs: Sequence[int]) -> Schedule:
        """Return the schedule of the same computed steps with other look-backs.

        Raises:
            ScheduleError: They are not one integer >= 1 per segment.
        """
        return Schedule(self.computed_steps, self.num_inference_steps, look_backs)

    def to_dict(self) -> dict[str, object]:
        """Return plain lists and numbers, as `from_dict` reads them."""
        return {
            "computed_steps": list(self.computed_steps),
            "look_backs": list(self.look_backs),
            "num_inference_steps": self.num_inference_steps,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Schedule:
        """Build a schedule from exactly the keys that `to_dict` writes.

        Raises:
            ScheduleError: A key is unknown or missing, or a value cannot be used.
        """
        keys = ("computed_steps", "look_backs", "num_inference_steps")
        remedy = f"Use exactly the keys {', '.join(keys)}"
        if not isinstance(data, Mapping):
            raise ScheduleError("schedule", data, "not a mapping", remedy)
        for name in data:
            if name not in keys:
                raise ScheduleError("schedule", dict(data), f"unknown key {name!r}", remedy)
        for name in keys:
            if name not in data:
                raise ScheduleError("schedule", dict(data), f"key {name!r} is missing", remedy)
        total = as_int(
            "num_inference_steps", data["num_inference_steps"], ScheduleError, "Use an integer"
        )
        steps = _integers("computed_steps", data["computed_steps"])
        return cls(steps, total, _integers("look_backs", data["look_backs"]))

    def to_json(self) -> str:
        """Return one line of JSON, the same bytes for equal schedules."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Read what `to_json` wrote.

        Raises:
            ScheduleError: The text is not JSON, or not a schedule.
        """
        try:
            data = json.loads(text)
        except (TypeError, ValueError) as error:
            raise ScheduleError(
                "schedule", text, f"not JSON ({error})", "Pass what to_json returned"
            ) from None
        return cls.from_dict(data)

    def _require_step(self, step: int) -> int:
        remedy = f"Use a step 0 … {self.num_inference_steps - 1}"
        step = as_int("step", step, ScheduleError, remedy)
        if not 0 <= step < self.num_inference_steps:
            raise ScheduleError("step", step, "the run has no such step", remedy)
        return step


def look_backs_of(computed_steps: Sequence[int], table: NDArray[Any]) -> tuple[int, ...]:
    """Return the look-back of each segment between computed steps, 1 where no step is cached.

    Args:
        computed_steps: Increasing steps.
        table: Look-backs of all segments, integers of shape (T, T): `[i, j]` is that of the segment
            from step i to step j.
    """
    segments = pairwise(computed_steps)
    return tuple(int(table[i, j]) if j > i + 1 else 1 for i, j in segments)


def _integers(field: str, values: object) -> tuple[int, ...]:
    if not isinstance(values, Iterable):
        raise ScheduleError(field, values, "not a sequence of integers", "Use a list of integers")
    return tuple(as_int(field, value, ScheduleError, "Use a list of integers") for value in values)


def _check_steps(steps: tuple[int, ...], total: int) -> None:
    field, last = "computed_steps", total - 1
    remedy = f"Use strictly increasing steps from 0 to {last}, both included"
    for step in steps:
        if not 0 <= step <= last:
            raise ScheduleError(field, steps, f"step {step} is outside 0 … {last}", remedy)
    for start, end in pairwise(steps):
        if end <= start:
            raise ScheduleError(field, steps, f"step {end} follows step {start}", remedy)
    for step in (0, last):
        if step not in steps:
            raise ScheduleError(field, steps, f"step {step} must be computed", remedy)


def _check_look_backs(look_backs: tuple[int, ...], count: int) -> None:
    remedy = "Use one look-back of 1 or more per segment"
    if len(look_backs) != count:
        problem = f"{len(look_backs)} look-backs for {count} segments"
        raise ScheduleError("look_backs", look_backs, problem, remedy)
    if any(look_back < 1 for look_back in look_backs):
        raise ScheduleError("look_backs", look_backs, "a look-back is below 1", remedy)
