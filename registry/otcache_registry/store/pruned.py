"""What was removed from the store."""

from __future__ import annotations

from dataclasses import dataclass

from otcache_registry.store.lock_record import LockRecord

__all__ = ["Pruned"]


@dataclass(frozen=True)
class Pruned:
    """What was removed from the store.

    Attributes:
        records: The pulled documents that are gone.
        files: Paths of all removed files, relative to the store's folder.
        size: Bytes that they took.
        own: Folders of the user's own documents that are gone.
    """

    records: tuple[LockRecord, ...]
    files: tuple[str, ...]
    size: int
    own: tuple[str, ...] = ()

    def __add__(self, other: Pruned) -> Pruned:
        """Return what was removed by two removals together."""
        return Pruned(
            self.records + other.records,
            self.files + other.files,
            self.size + other.size,
            self.own + other.own,
        )
