"""Batches: which prompt-seed pairs go through the pipeline together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
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


def parts_of(batches: Sequence[Batch], pairs: range, size: int) -> tuple[Batch, ...]:
    """Return some pairs of neighbouring batches in parts of at most `size`, each within a batch.

    Every batch is cut from its own beginning on, whichever pairs are asked for, so that the same
    pairs go through the pipeline together.
    """
    cuts = {pairs.start, pairs.stop}
    for batch in batches:
        cuts |= {*range(batch.start, batch.stop, size)} & {*pairs}
    return between(batches[0].pair_set, cuts)


def between(pair_set: PairSet, cuts: Collection[int]) -> tuple[Batch, ...]:
    """Return the pairs from the first to the last cut, in batches that are cut there."""
    return tuple(Batch(pair_set, start, stop) for start, stop in pairwise(sorted(cuts)))
