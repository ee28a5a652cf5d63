"""What came of a row of the matrix, column by column."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tiny_pipelines.building import Row

COLUMNS = ("velocity", "blocks", "teacache", "dicache")
"""The executors; of `probe` what TeaCache observes and what DiCache does, one after the other."""


@dataclass(frozen=True)
class Outcome:
    """What came of a row in one column.

    Attributes:
        support: how it is served, "refused", or "" where none is known.
        reason: of the refusal.
        failures: what did not hold.
    """

    support: str
    reason: str = ""
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tried:
    """What came of a row.

    Attributes:
        pipeline: the row's.
        scheduler: the class of the scheduler it had.
        velocity: with this executor.
        blocks: with this executor.
        teacache: with the executor `probe`, by the first block's modulated input.
        dicache: with the executor `probe`, by what the first block gives.
    """

    pipeline: str
    scheduler: str
    velocity: Outcome
    blocks: Outcome
    teacache: Outcome
    dicache: Outcome

    @classmethod
    def broken(cls, row: Row, problem: str) -> Tried:
        """A row that could not be tried."""
        nothing = Outcome("", failures=(problem,))
        return cls(str(row), "", *(nothing for _ in COLUMNS))

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Tried:
        """From JSON."""
        columns = {
            name: Outcome(**{**row[name], "failures": tuple(row[name]["failures"])})
            for name in COLUMNS
        }
        return cls(row["pipeline"], row["scheduler"], **columns)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def outcomes(self) -> tuple[Outcome, ...]:
        """By column."""
        return tuple(getattr(self, name) for name in COLUMNS)

    def failures(self) -> tuple[str, ...]:
        """What did not hold in any column."""
        return tuple(failure for each in self.outcomes() for failure in each.failures)

    def summary(self) -> str:
        """In a line."""
        said = "; ".join(each.support or "?" for each in self.outcomes())
        return "; ".join([said, *self.failures()])
