"""Units of work: what a calibration wants measured, small enough to be lost and done again.

A calibration is a function of what its units measure and of nothing else. So whoever measures
them, in whatever order and however often interrupted, the document is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from otcache_policies import Schedule

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


@dataclass(frozen=True)
class Record:
    """A full run whose trajectory is rolled out: `errors` (n, T, T, K) and `sigmas` (T + 1,).

    Its outputs are those of the `Reference` of the same batch, which it gives too.
    """

    batch: Batch


@dataclass(frozen=True)
class Reference:
    """A full run whose outputs others are compared with.

    Gives `latents` and, where a metric looks at them, `pictures`.
    """

    batch: Batch


@dataclass(frozen=True)
class Evaluate:
    """A run with a schedule, compared with the full run: one `(n,)` array per metric.

    The run has as many steps as the schedule, so a full schedule of fewer steps is a plain run.
    """

    batch: Batch
    schedule: Schedule
    metrics: tuple[str, ...]


Unit = Record | Reference | Evaluate

LossRequest = tuple["Schedule", Batch]
"""A schedule to be run on a batch of pairs; answered with an `(n,)` array of losses."""

Losses = Mapping[LossRequest, "NDArray[np.float64]"]
"""What is answered."""


def unit_key(unit: Unit) -> str:
    """Name a unit by what it is: equal units have equal keys."""
    kind = type(unit).__name__.lower()
    described: dict[str, Any] = {"kind": kind, "batch": list(vars(unit.batch).values())}
    if isinstance(unit, Evaluate):
        described |= {
            "steps": unit.schedule.computed_steps,
            "look_backs": unit.schedule.look_backs,
            "num_inference_steps": unit.schedule.num_inference_steps,
            "metrics": unit.metrics,
        }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return f"{kind}-{digest[:40]}"


@dataclass(frozen=True, eq=False)
class Measured:
    """What a unit gave.

    Attributes:
        arrays: by name, as the unit's class says.
        transformer_calls: that it took; a batch counts once.
        seconds: that it took.
    """

    arrays: Mapping[str, NDArray[Any]]
    transformer_calls: int
    seconds: float
