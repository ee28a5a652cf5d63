"""A clock that moves when a test says so."""

from __future__ import annotations

from collections.abc import Callable


class FakeClock:
    """Stands still until it is moved, and then calls whoever wanted to be called."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.wanted: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def every(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        entry = seconds, call
        self.wanted.append(entry)
        return lambda: self.wanted.remove(entry)

    def move(self, seconds: float) -> None:
        """Let time pass, with nobody called."""
        self.time += seconds

    def beat(self) -> None:
        """Call everybody, as after a while."""
        for _, call in self.wanted:
            call()
