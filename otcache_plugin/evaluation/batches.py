"""Batches: which prompt-seed pairs go through the pipeline together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PairSet = Literal["calibration", "held-out"]


@dataclass(frozen=True)
class Batch:
    """Neighbouring pairs that go through the pipeline in one call.

    Attributes:
        pair_set: which pairs are counted.
        start: the first one.
        stop: the one after the last.
    """

    pair_set: PairSet
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def batches_of(pair_set: PairSet, count: int, size: int) -> tuple[Batch, ...]:
    """Return `count` pairs in batches of `size`, the last one smaller."""
    return tuple(
        Batch(pair_set, start, min(start + size, count)) for start in range(0, count, size)
    )
