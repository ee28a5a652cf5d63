"""How long the Hub is waited for: one deadline for all that is asked, and when to ask again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import tenacity
from otcache_registry.hub.environment import COMMAND_SECONDS, hub_seconds
from otcache_registry.hub.errors import HubError

__all__ = ["Patience"]

TRIES: Final = 4

LONGEST_WAIT: Final = 30.0
"""Most seconds of a pause. A Hub that wants to be left alone for longer is not asked again."""

WORTH_SAYING: Final = 2.0
"""Seconds of a pause that is long enough to be announced."""

_BACK_OFF = tenacity.wait_exponential(multiplier=0.5, max=8.0) + tenacity.wait_random(0.0, 0.5)
_LOG = logging.getLogger("otcache")


@dataclass(frozen=True)
class Patience:
    """The time that a command, or a look-up, may take with the Hub altogether.

    Args:
        seconds: How long; OTCACHE_HUB_SECONDS, or `COMMAND_SECONDS`, when left out.
        sleep: Waits for some seconds.
        clock: Tells the time in seconds.
        say: Is told what is being waited for; the log when left out.
    """

    seconds: float = field(default_factory=lambda: hub_seconds(COMMAND_SECONDS))
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    say: Callable[[str], None] = _LOG.warning
    ends: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ends", self.clock() + self.seconds)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.ends - self.clock()

    def at_most(self, seconds: float) -> Patience:
        """Return one that begins now and lasts no longer than this, nor than this one."""
        return replace(self, seconds=min(seconds, max(self.left, 0.0)))

    def retrying(self, *errors: type[HubError]) -> tenacity.Retrying:
        """Return what calls a function again while it raises one of these, for a few times."""

        def is_worth_it(error: BaseException) -> bool:
            if not isinstance(error, errors):
                return False
            asked_for = error.retry_after or 0.0
            return asked_for <= LONGEST_WAIT and asked_for < self.left

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_worth_it),
            stop=tenacity.stop_after_attempt(TRIES),
            wait=self._pause,
            before_sleep=self._tell,
            sleep=self.sleep,
            reraise=True,
        )

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Return the seconds to wait: those that the Hub names, else more after every failure."""
        error = _failure(state)
        if error is not None and error.retry_after is not None:
            return error.retry_after
        return min(_BACK_OFF(state), max(self.left, 0.0))

    def _tell(self, state: tenacity.RetryCallState) -> None:
        error, pause = _failure(state), state.upcoming_sleep
        if error is not None and pause >= WORTH_SAYING:
            self.say(
                f"Asking the Hub again in {pause:.0f} seconds, for the "
                f"{_ORDINALS[state.attempt_number]} of {TRIES} times: "
                f"{error.field} {error.value}: {error.problem}"
            )


_ORDINALS = {1: "second", 2: "third", 3: "fourth"}


def _failure(state: tenacity.RetryCallState) -> HubError | None:
    error = None if state.outcome is None else state.outcome.exception()
    return error if isinstance(error, HubError) else None
