"""Units of work: what a calibration wants measured, small enough to be lost and done again.

A calibration is a function of what its units measure and of nothing else. So whoever measures
them, in whatever order and however often interrupted, the document is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otcache_policies import Schedule

from otcache_plugin.evaluation.batches import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Record:
    """A full run whose trajectory is rolled out.

    Gives `errors` (n, T, T, K) of the edges, Gram matrices `grams` (n, T, T) and sketches
    `velocities` (n, T, k) of what its velocities do to the pictures, or to the latents where those
    are compared, the scheduler's `response` (T,) and `sigmas` (T + 1,). Where pictures are compared
    it also gives the latents' own Gram matrices, `latent_grams` (n, T, T).

    Its outputs are those of the `Reference` of the same batch, which it gives too.
    """

    batch: Batch


@dataclass(frozen=True)
class Reference:
    """A full run whose outputs others are compared with.

    Gives `latents`, the run's `sigmas` (T + 1,) and, where a metric looks at them, `pictures`.
    """

    batch: Batch


@dataclass(frozen=True)
class ReplayPlan:
    """How a run is had for less: begun like another one of its batch, whose outputs were kept.

    Attributes:
        stage: number of what is asked for side by side; nothing is kept from one to the next.
        search: which of several in it.
        after: the schedule whose run this one begins like, None where there is none.
        kept: the schedules whose runs are kept after this one.
    """

    stage: int
    search: str
    after: Schedule | None
    kept: tuple[Schedule, ...]


@dataclass(frozen=True)
class Evaluate:
    """A run with a schedule, compared with the full run: one `(n,)` array per metric.

    The run has as many steps as the schedule, so a full schedule of fewer steps is a plain run.
    Where `displaced` it also gives the sketch `displacement` (n, k) of its pictures less those of
    the full run, or of its last latents where those are compared.
    How much of it is replayed changes nothing in what it gives, so a unit is the same either way.
    """

    batch: Batch
    schedule: Schedule
    metrics: tuple[str, ...]
    displaced: bool = False
    replay: ReplayPlan | None = field(default=None, compare=False)

    @property
    def replayed_steps(self) -> tuple[int, ...]:
        """The computed steps that are taken from the run that it begins like."""
        if self.replay is None or self.replay.after is None:
            return ()
        return self.schedule.shared_steps(self.replay.after)


@dataclass(frozen=True)
class Observe:
    """A full run in which something is observed that policies decide by.

    Gives, for every step from the second to the last but one, how far it has changed since the step
    before: `observed` (n, T - 2) and, of the velocities, `outputs` (n, T - 2), both as the L1 norm
    of the difference over that of the value before. Its outputs are those of the `Reference` of the
    same batch, which it gives too.
    """

    batch: Batch
    observes: str


@dataclass(frozen=True)
class DecidingRun:
    """A policy that decides at every step, as what it is made from, and a budget to aim at.

    Attributes:
        policy: its name.
        parameters: of a document of it, as JSON.
        tables: of that document, as safetensors has them; none where it has none.
        sampling: the set-up of the document, as JSON.
        budget: to aim at.
    """

    policy: str
    parameters: str
    tables: bytes
    sampling: str
    budget: int


@dataclass(frozen=True)
class Decide:
    """A run in which a policy decides, compared with the full run, and what it came to.

    Gives an `(n,)` array per metric, and `computed_steps` (n,) and `block_share` (n,), the share of
    a full run's block evaluations. A call decides for all of its pairs, so a batch is of one pair.
    """

    batch: Batch
    run: DecidingRun
    metrics: tuple[str, ...]


Unit = Record | Reference | Evaluate | Observe | Decide
Compared = Evaluate | Decide
"""Units whose runs are compared with the full run: their values are small."""

Run = Schedule | DecidingRun
"""What is compared: steps that are known before, or decided meanwhile."""


def comparisons(run: Run, batches: Sequence[Batch], metrics: tuple[str, ...]) -> list[Compared]:
    """Return the units that compare a run with the full one on some batches."""
    if isinstance(run, Schedule):
        return [Evaluate(batch, run, metrics) for batch in batches]
    return [
        Decide(Batch(batch.pair_set, pair, pair + 1), run, metrics)
        for batch in batches
        for pair in range(batch.start, batch.stop)
    ]


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
            "displaced": unit.displaced,
        }
    if isinstance(unit, Observe):
        described["observes"] = unit.observes
    if isinstance(unit, Decide):
        tables = hashlib.sha256(unit.run.tables).hexdigest()
        described |= {"run": {**vars(unit.run), "tables": tables}, "metrics": unit.metrics}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return f"{kind}-{digest[:40]}"


@dataclass(frozen=True, eq=False)
class Measured:
    """What a unit gave.

    Attributes:
        arrays: by name, as the unit's class says.
        calls: of the transformer, for one computed step after the other; a batch counts once.
            Replayed steps are among them: whether one is depends on what else is asked for.
        seconds: that it took.
    """

    arrays: Mapping[str, NDArray[Any]]
    calls: tuple[int, ...]
    seconds: float
