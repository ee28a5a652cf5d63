"""Reading several documents as they are at one moment, though others may be removing some."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from otcache_registry.store.errors import RemovedError, StoreError

__all__ = ["at_one_moment"]

MOST_READS: Final = 20
"""How often documents are read because one of them has been removed meanwhile."""

Value = TypeVar("Value")


def at_one_moment(read: Callable[[], Value], folder: Path) -> Value:
    """Return what is read, all of it anew where a document was removed meanwhile.

    Args:
        read: Lists the documents and reads them.
        folder: Where they are, for the error.

    Raises:
        StoreError: Each time a document was removed meanwhile.
    """
    for _ in range(MOST_READS):
        with suppress(RemovedError):  # What replaced it is listed by now.
            return read()
    problem, remedy = "its documents keep being removed", "Stop whatever removes them"
    raise StoreError("store", str(folder), problem, remedy)
