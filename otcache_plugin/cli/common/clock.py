"""The time, and what is done again and again as it passes."""

from __future__ import annotations

import time
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock(Protocol):
    """Tells the time, and calls back as it passes."""

    def now(self) -> float:
        """Return seconds since some moment."""
        ...

    def every(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call whenever so many seconds have passed, until what is returned is called."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    def every(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """Call from a thread of its own, whatever the others wait for."""
        ended = Event()

        def run() -> None:
            while not ended.wait(seconds):
                call()

        thread = Thread(target=run, name="otcache-clock", daemon=True)
        thread.start()

        def stop() -> None:
            ended.set()
            thread.join()

        return stop
