"""What a pipeline's user is warned of, each kind once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_policies.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Notices", "RunWarning"]


class RunWarning(UserWarning):
    """A run is not of those that its policy is known to do well on."""


class Notices:
    """The warnings of one pipeline's runs: the first of every kind is given, no later one."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def warn(self, before: str, doubts: Sequence[tuple[str, str]], after: str) -> None:
        """Give one warning of all doubts of kinds that were not warned of before.

        Args:
            before: how the warning begins.
            doubts: kinds, and what to say of each.
            after: how it ends.
        """
        new = [(kind, text) for kind, text in doubts if kind not in self._given]
        if new:
            self._given.update(kind for kind, _ in new)
            text = ", ".join(text for _, text in new)
            warn_caller(f"{before}{text}{after}", RunWarning)
