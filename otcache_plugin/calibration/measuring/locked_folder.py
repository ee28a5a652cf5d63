"""Folders that one process at a time works in, and what is said where that cannot be."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from filelock import FileLock, Timeout

from otcache_plugin.calibration.errors import WorkspaceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["LockedFolder", "explained"]

LOCK_FILE = "lock"


class LockedFolder:
    """A folder that nobody else opens until the end of the block that this is the context of.

    Args:
        folder: made when it is not there.
        does: what is done in it, as another process does.

    Raises:
        WorkspaceError: the folder cannot be written, or another process has it open.
    """

    def __init__(self, folder: Path, does: str) -> None:
        self.folder = folder
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _held_lock(folder, does)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Have the folder free again where it is found unfit inside the block."""
        try:
            yield
        except BaseException:
            self._lock.release()
            raise


def _held_lock(folder: Path, does: str) -> FileLock:
    """Return the folder's lock, held by this process; raise WorkspaceError where another has it."""
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise WorkspaceError(
            f"another process {does} in {folder}. Wait for it, stop it, or use another output."
        ) from None
    return lock


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn an error of the file system into one that says what to do about it."""
    try:
        yield
    except OSError as error:
        remedy = (
            "Free some space and start the same command again"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            else "Check its permissions, or use another output"
        )
        raise WorkspaceError(
            f"the working folder {folder} cannot be used ({error.strerror or error}). {remedy}; "
            "everything measured so far is kept."
        ) from None
