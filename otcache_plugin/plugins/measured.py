"""Measured values that calibrators are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from otcache_policies import Schedule


@dataclass(frozen=True, eq=False)
class DisplacedRun:
    """A schedule that was run on some pairs.

    Attributes:
        schedule: that was run.
        pairs: on which.
        losses: `(N,)`, one per pair, smaller is better.
        displacement: `(N, k)` sketches of its pictures less those of the full run, or of its last
            latents where the metric compares those; of the same form as those of the velocities.
    """

    schedule: Schedule
    pairs: range
    losses: NDArray[np.float64]
    displacement: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ObservedChanges:
    """How far something changes from step to step in full runs, which policies decide by.

    Each is the L1 norm of the difference over that of the value before, from the second step to the
    last but one: `(N, T - 2)`, a row per calibration pair.

    Attributes:
        observed: of what is observed.
        outputs: of the velocity.
    """

    observed: NDArray[np.float64]
    outputs: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DecidedRuns:
    """What came of a policy that decided, on every calibration pair.

    Attributes:
        losses: `(N,)`, smaller is better.
        computed_steps: `(N,)`.
        block_share: `(N,)`, of a full run's block evaluations.
    """

    losses: NDArray[np.float64]
    computed_steps: NDArray[np.int64]
    block_share: NDArray[np.float64]
