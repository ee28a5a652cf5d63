"""What a pipeline's user is warned of, each kind once."""

from __future__ import annotations

import warnings

__all__ = ["Notices", "RunWarning"]


class RunWarning(UserWarning):
    """A run is not of those that its policy is known to do well on."""


class Notices:
    """The warnings of one pipeline's runs: the first of every kind is given, no later one."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def warn(self, kind: str, text: str) -> None:
        """Give a warning unless one of its kind was given before."""
        if kind not in self._given:
            self._given.add(kind)
            warnings.warn(text, RunWarning, stacklevel=2)
