"""Who measures units: this process, the actors of a Ray cluster, or nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from otcache_plugin.calibration.errors import UnfinishedError
from otcache_plugin.calibration.measuring.units import Decide, Evaluate
from otcache_plugin.calibration.stages import LOADING, Unwatched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from otcache_plugin.calibration.measuring.facts import ModelFacts
    from otcache_plugin.calibration.measuring.units import Measured, Unit
    from otcache_plugin.calibration.settings import MeasuringSettings
    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.evaluation.batches import Batch
    from otcache_plugin.models.setups import ModelSetup

    Arrays = Mapping[str, NDArray[Any]]


class LocalPool:
    """Measures in this process, one unit after the other.

    Args:
        load: gives the model.
        settings: of the calibration.
        scratch: folder for the trajectory of a run under way.
        progress: is told what it does.
    """

    def __init__(
        self,
        load: Callable[[], ModelSetup],
        settings: MeasuringSettings,
        scratch: Path,
        progress: CalibrationProgress | None = None,
    ) -> None:
        from otcache_plugin.calibration.measuring.worker import Worker

        progress = progress or Unwatched()
        progress.announce(LOADING)
        self._worker = Worker(load(), settings, scratch, progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    @property
    def facts(self) -> ModelFacts:
        """Of the model."""
        return self._worker.facts

    def measure(
        self, units: Sequence[Unit], reference: Callable[[Batch], Arrays]
    ) -> Iterator[tuple[Unit, Measured]]:
        """Measure units in their order."""
        for unit in units:
            compared_with = reference(unit.batch) if isinstance(unit, Evaluate | Decide) else {}
            yield from self._worker.measure(unit, compared_with)


class NoPool:
    """Measures nothing: for putting together what others have measured.

    Args:
        absent: shards that have measured nothing, for the error.
    """

    def __init__(self, absent: Sequence[str] = ()) -> None:
        self._absent = absent

    def measure(
        self, units: Sequence[Unit], reference: Callable[[Batch], Arrays]
    ) -> Iterator[tuple[Unit, Measured]]:
        """Raise UnfinishedError when there is anything to measure."""
        if units:
            because = f": there is no shard {', '.join(self._absent)}" if self._absent else ""
            raise UnfinishedError(
                f"{len(units)} measurements are missing{because}. Run all shards with the command "
                "that the others were begun with, then merge again."
            )
        yield from ()
