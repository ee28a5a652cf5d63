"""What looks for schedules of low loss: any search algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from otcache_plugin.calibration.searching.candidates import Searching, SearchTask


class SearchAlgorithm(Protocol):
    """A way to search the schedules of one budget for the lowest loss.

    It is told apart from others by its name and the attributes that it has, as a frozen dataclass
    has them: both belong to what a calibration is determined by.
    """

    @property
    def name(self) -> str:
        """As documents and working folders name it."""
        ...

    @property
    def trials(self) -> int:
        """Most candidates that one search tries, its warm start not counted."""
        ...

    def search(self, task: SearchTask) -> Searching:
        """Search; ask for losses with `yield`, and return every candidate that was judged.

        The same losses have to lead to the same requests: a calibration that goes on after an
        interruption searches once more from the start.
        """
        ...
