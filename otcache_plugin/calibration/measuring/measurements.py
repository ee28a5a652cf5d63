"""The one door to measured values: from the working folder, or measured now and kept there."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from otcache_policies import Schedule

from otcache_plugin.calibration.errors import UnfinishedError
from otcache_plugin.calibration.measuring.losses import ScheduleLoss, losses_of
from otcache_plugin.calibration.measuring.replaying import FromTheStart, Planner, ReplayPlanner
from otcache_plugin.calibration.measuring.units import (
    Decide,
    Evaluate,
    Measured,
    Observe,
    Record,
    Reference,
    Unit,
)
from otcache_plugin.evaluation.batches import Batch, batches_of
from otcache_plugin.plugins.calibrating import Losses, LossRequest, Search

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from otcache_plugin.calibration.measuring.workspace import Workspace
    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.evaluation.batches import PairSet
    from otcache_plugin.evaluation.metrics import Metric

OnUnit = Callable[[int, bool], None]
"""Is told of a unit that is there: its denoising steps, none where it was told of already, and
whether it was measured before."""

Key = TypeVar("Key", bound="Hashable")
Result = TypeVar("Result")


def untold(steps: int, before: bool) -> None:
    """Tell nobody of a unit."""


POLL_SECONDS = 0.2

OUTPUTS = ("latents", "pictures")
"""What a full run gives for each pair."""


class Pool(Protocol):
    """Whoever measures units."""

    def measure(
        self, units: Sequence[Unit], reference: Callable[[Batch], Mapping[str, NDArray[Any]]]
    ) -> Iterator[tuple[Unit, Measured]]:
        """Measure units, in any order.

        Args:
            units: what to measure.
            reference: the full runs' outputs of a batch, for the units that compare with them.
        """
        ...


class Spent(NamedTuple):
    """What a unit took.

    Attributes:
        calls: of the transformer, for one step that was not replayed after the other.
        seconds: of a worker.
    """

    calls: tuple[int, ...]
    seconds: float


class Share:
    """The part of the units that this process measures, by their pairs.

    Args:
        number: of this shard, from 1.
        count: of all shards.
        wait: seconds without news from the others after which it gives up.
    """

    def __init__(self, number: int = 1, count: int = 1, wait: float = 0.0) -> None:
        self.number = number
        self.count = count
        self.wait = wait

    @property
    def part(self) -> float:
        """Of all units."""
        return 1 / self.count

    def owns(self, unit: Unit, batch_size: int) -> bool:
        """Return whether this process measures the unit: whoever recorded its pairs."""
        return unit.batch.start // batch_size % self.count == self.number - 1


class Measurements:
    """Measured values of one calibration.

    Args:
        workspace: where they are kept.
        pool: who measures what is not there yet.
        settings: of the calibration.
        share: which units are this process's.
    """

    def __init__(
        self,
        workspace: Workspace,
        pool: Pool,
        settings: MeasuringSettings,
        share: Share | None = None,
    ) -> None:
        self.workspace = workspace
        self._pool = pool
        self.settings = settings
        self.share = share or Share()
        self._spent: dict[Unit, Spent] = {}
        self._finite: dict[Unit, NDArray[np.bool_]] = {}
        self._stages = itertools.count(1)

    @property
    def calibration_batches(self) -> tuple[Batch, ...]:
        """All calibration pairs."""
        return batches_of("calibration", self.settings.pairs, self.settings.batch_size)

    @property
    def held_out_batches(self) -> tuple[Batch, ...]:
        """All held-out pairs."""
        return batches_of("held-out", self.settings.held_out_pairs, self.settings.batch_size)

    @property
    def evaluations(self) -> int:
        """Distinct schedules that were run, and policies that decided at a budget."""
        schedules = {unit.schedule for unit in self._spent if isinstance(unit, Evaluate)}
        return len(schedules) + len({u.run for u in self._spent if isinstance(u, Decide)})

    @property
    def transformer_calls(self) -> int:
        """Of everything that was asked for, measured now or before."""
        return sum(sum(spent.calls) for spent in self._spent.values())

    @property
    def denoising_steps(self) -> int:
        """Computed for calibration pairs, each pair's own, likewise.

        A step that is replayed as planned is none, also where what it begins like was lost, and it
        had to be computed again.
        """
        return self._steps("calibration")

    @property
    def evidence_steps(self) -> int:
        """Computed for held-out pairs, likewise."""
        return self._steps("held-out")

    def _steps(self, pair_set: PairSet) -> int:
        return sum(map(self._steps_of, (u for u in self._spent if u.batch.pair_set == pair_set)))

    def _steps_of(self, unit: Unit) -> int:
        return len(self._spent[unit].calls) * len(unit.batch)

    @property
    def seconds(self) -> float:
        """Time that workers spent, likewise."""
        return sum(spent.seconds for spent in self._spent.values())

    @property
    def values(self) -> int:
        """Values of metrics that were measured, one per run, pair and metric."""
        return sum(finite.size for finite in self._finite.values())

    @property
    def values_not_finite(self) -> int:
        """How many of them are not finite; as losses they are the worst there is."""
        return sum(int((~finite).sum()) for finite in self._finite.values())

    def prepare(self, units: Sequence[Unit], on_unit: OnUnit = untold) -> None:
        """Have units measured that are too large to be held all at once.

        Raises:
            UnfinishedError: other shards have not measured theirs.
        """
        missing = list(dict.fromkeys(units))
        while missing:
            found = {unit for unit, _ in self._available(missing, on_unit)}
            missing = [unit for unit in missing if unit not in found]
            self._wait_for(missing)

    def all_of(self, units: Sequence[Unit], on_unit: OnUnit = untold) -> list[Measured]:
        """Return what each of the units gave, in their order.

        Raises:
            UnfinishedError: other shards have not measured theirs.
        """
        found: dict[Unit, Measured] = {}
        missing = self._planner(next(self._stages), "", self._spent).plan(units)
        while missing:
            asked = frozenset(missing)  # What comes with them may be large, and is kept on disk.
            available = self._available(missing, on_unit)
            found.update(each for each in available if each[0] in asked)
            missing = [unit for unit in missing if unit not in found]
            self._wait_for(missing)
        return [found[unit] for unit in units]

    def drive(
        self,
        searches: Mapping[Key, Search[Result]],
        metric: Metric,
        on_unit: OnUnit = untold,
    ) -> dict[Key, Result]:
        """Run searches side by side, each sent the losses that it asks for.

        Raises:
            UnfinishedError: all of them need what other shards have not measured.
        """
        results: dict[Key, Result] = {}
        wanted: dict[Key, dict[Unit, LossRequest]] = {}
        stage, known = next(self._stages), frozenset(self._spent)
        planners = {key: self._planner(stage, str(key), known) for key in searches}

        def advance(key: Key, given: Losses | None) -> None:
            search = searches[key]
            try:
                requests = next(search) if given is None else search.send(given)
            except StopIteration as stop:
                results[key] = stop.value
                return
            units: dict[Unit, LossRequest] = {
                self._evaluate(*request, metric): request for request in requests
            }
            wanted[key] = {unit: units[unit] for unit in planners[key].plan(units)}

        for key in searches:
            advance(key, None)
        while wanted:
            units = list(dict.fromkeys(unit for each in wanted.values() for unit in each))
            found = dict(self._available(units, on_unit))
            ready = [key for key, each in wanted.items() if found.keys() >= each.keys()]
            for key in ready:
                asked = wanted.pop(key).items()
                advance(key, {each: losses_of(found[unit], metric) for unit, each in asked})
            if not ready:
                self._wait_for([unit for unit in units if unit not in found])
        return {key: results[key] for key in searches}

    def losses(
        self,
        schedules: Sequence[Schedule],
        metric: Metric,
        on_unit: OnUnit = untold,
    ) -> list[ScheduleLoss]:
        """Return what each schedule loses on all calibration pairs."""
        batches = self.calibration_batches
        units = [self._evaluate(each, batch, metric) for each in schedules for batch in batches]
        measured = iter(self.all_of(units, on_unit))
        return [
            ScheduleLoss(
                each,
                metric.name,
                np.concatenate([losses_of(next(measured), metric) for _ in batches]),
            )
            for each in schedules
        ]

    def _planner(self, stage: int, search: str, known: Collection[Unit]) -> Planner:
        """Return what plans the runs of one search, or of one list."""
        if self.settings.mechanism.replays:
            return ReplayPlanner(stage, search, known)
        return FromTheStart()

    @staticmethod
    def _evaluate(schedule: Schedule, batch: Batch, metric: Metric) -> Evaluate:
        return Evaluate(batch, schedule, (metric.name,))

    def _available(
        self, units: Sequence[Unit], on_unit: OnUnit = untold
    ) -> Iterator[tuple[Unit, Measured]]:
        """Yield what is known of the units, and then what this process measures of them itself."""
        own = []
        for unit in units:
            owned = self.share.owns(unit, self.settings.batch_size)
            measured = self.workspace.get(unit)
            if measured is not None and not (owned and self._is_half_kept(unit)):
                is_new = unit not in self._spent
                yield self._note(unit, measured)
                on_unit(self._steps_of(unit) if is_new else 0, True)
            elif owned:
                own.append(unit)
        asked = set(own)
        for unit, measured in self._pool.measure(own, self.reference):
            self.workspace.put(unit, measured)
            is_new = unit not in self._spent
            yield self._note(unit, measured)
            if unit in asked:
                on_unit(self._steps_of(unit) if is_new else 0, False)

    def _is_half_kept(self, unit: Unit) -> bool:
        """Return whether a recording's outputs alone are gone: deleted, for they were damaged."""
        gives_outputs = isinstance(unit, Record | Observe)
        return gives_outputs and self.workspace.get(Reference(unit.batch)) is None

    def _note(self, unit: Unit, measured: Measured) -> tuple[Unit, Measured]:
        replayed = len(unit.replayed_steps) if isinstance(unit, Evaluate) else 0
        # Asked for again, a unit takes nothing.
        self._spent.setdefault(unit, Spent(measured.calls[replayed:], measured.seconds))
        if isinstance(unit, Evaluate | Decide):
            values = [measured.arrays[name].astype(np.float64) for name in unit.metrics]
            self._finite[unit] = np.isfinite(values)
        return unit, measured

    def reference(self, batch: Batch) -> Mapping[str, NDArray[Any]]:
        """Return the full runs' outputs of a batch, or of the part of one that it is."""
        size = self.settings.batch_size
        batches = {"calibration": self.calibration_batches, "held-out": self.held_out_batches}
        whole = batches[batch.pair_set][batch.start // size]
        rows = slice(batch.start - whole.start, batch.stop - whole.start)
        arrays = self.full_run(whole)
        return {name: arrays[name][rows] for name in OUTPUTS if name in arrays}

    def full_run(self, batch: Batch) -> Mapping[str, NDArray[Any]]:
        """Return what the full run of a whole batch gave, its noise schedule included."""
        measured = self.workspace.get(Reference(batch))
        assert measured is not None, f"{batch} is asked for before it is run"
        return measured.arrays

    def _wait_for(self, units: Sequence[Unit]) -> None:
        """Return when one of them has been measured elsewhere, or there is none."""
        deadline = time.monotonic() + self.share.wait
        while units and not any(self.workspace.get(unit) is not None for unit in units):
            if time.monotonic() >= deadline:
                raise UnfinishedError(
                    f"shard {self.share.number} of {self.share.count} has done its part of this "
                    f"stage, and needs {len(units)} measurements of other shards. Run them, then "
                    "start the same command again."
                )
            time.sleep(POLL_SECONDS)
