"""Waiting for what other processes and threads do: as long as it takes on a busy machine."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

CEILING = 1800.0
"""Seconds after which a test gives up: no machine is so busy, what is waited for hangs."""

POLL_SECONDS = 0.005


def wait_until(
    happened: Callable[[], object], possible: Callable[[], object] = lambda: True
) -> None:
    """Wait until something has happened.

    Args:
        happened: says whether it has.
        possible: says whether it still may; as a rule, whether the process that does it lives.

    Raises:
        AssertionError: it cannot happen any more, or hangs.
    """
    begun = monotonic()
    while not happened():
        # What happened as the last thing before the end has happened.
        assert possible() or happened(), "it cannot happen any more"
        assert monotonic() < begun + CEILING, f"it has not happened in {CEILING:g} seconds"
        sleep(POLL_SECONDS)
