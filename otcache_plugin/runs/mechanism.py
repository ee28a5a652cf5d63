"""What makes a schedule happen: an executor, and what extrapolates on the steps that it caches."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from otcache_plugin.errors import ArgumentError

__all__ = [
    "BLOCKS",
    "PROBE",
    "USUAL",
    "VELOCITY",
    "CacheDitCalibrator",
    "Mechanism",
    "calibrator_named",
]

VELOCITY = "velocity"
"""The executor of schedules where no other one is asked for."""

BLOCKS = "blocks"
"""The executor that runs schedules inside cache-dit's block cache."""

PROBE = "probe"
"""The executor of policies that decide by features of a transformer's first blocks."""


class CacheDitCalibrator(StrEnum):
    """What of cache-dit extrapolates the residuals of a cached step, instead of reusing them."""

    TAYLORSEER = "taylorseer"
    FOCA = "foca"
    DMD = "dmd"


def calibrator_named(name: str) -> CacheDitCalibrator:
    """Return cache-dit's calibrator of a name, or raise ArgumentError."""
    try:
        return CacheDitCalibrator(name)
    except ValueError:
        remedy = f"Use {', '.join(CacheDitCalibrator)}"
        raise ArgumentError("calibrator", name, "no such calibrator", remedy) from None


@dataclass(frozen=True)
class Mechanism:
    """What runs are made on.

    Attributes:
        executor: the registered name.
        calibrator: of cache-dit, by its name; None where residuals are reused as they are, or
            nothing is cached by blocks.

    Raises:
        ArgumentError: there is no such calibrator, or the executor takes none.
    """

    executor: str = VELOCITY
    calibrator: str | None = None

    def __post_init__(self) -> None:
        if self.calibrator is None:
            return
        calibrator_named(self.calibrator)
        if self.executor != BLOCKS:
            problem = f"the executor {self.executor} has no use for cache-dit's calibrators"
            remedy = f"Leave it out, or use the executor {BLOCKS}"
            raise ArgumentError("calibrator", self.calibrator, problem, remedy)

    @property
    def replays(self) -> bool:
        """Whether a run can begin with what another one has computed."""
        return self.executor == VELOCITY

    def __str__(self) -> str:
        if self.calibrator is None:
            return self.executor
        return f"{self.executor} with {self.calibrator}"


USUAL: Final = Mechanism()
"""What schedules run on where nothing else is asked for."""
