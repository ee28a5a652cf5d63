"""The store's folder: files that are there whole or not at all, and one writer at a time.

    blobs/<sha256>        content of files, shared between documents and commits
    locks/<key>.json      one record per document
    own/                  the user's own documents
    temporary/            what is being written

A file is written in `temporary` and moved to its place. Writers take turns, so whatever a writer
finds in `temporary` is left over from one that was killed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs
from filelock import FileLock, Timeout
from otcache_registry.store.errors import StoreError

__all__ = [
    "BLOBS_FOLDER",
    "LOCKS_FOLDER",
    "TEMPORARY_FOLDER",
    "StoreFolder",
    "default_store_folder",
    "explained",
    "make_folder",
    "read_whole",
]

CACHE_VARIABLE: Final = "OTCACHE_CACHE"
"""Environment variable that names another folder than the platform's cache folder."""

LOCK_SECONDS = 60.0
"""How long a writer waits for another one. Writing the largest document takes some seconds."""

NOTICE_SECONDS = 1.0
"""After how long it is said that another writer is waited for."""

BLOBS_FOLDER: Final = "blobs"
LOCKS_FOLDER: Final = "locks"
TEMPORARY_FOLDER: Final = "temporary"
LOCK_FILE: Final = ".lock"
SCRATCH: Final = "own"
"""Name of the one folder that there may be among what is being written."""

_LOG = logging.getLogger("otcache")
_OWN_NAME = re.compile(r"[0-9a-f]{64}(\.json)?")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def default_store_folder() -> Path:
    """Return where pulled documents are kept: below OTCACHE_CACHE, or the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    cache = os.path.expanduser(chosen) if chosen else platformdirs.user_cache_dir("otcache", False)
    return Path(cache).absolute() / "policies"


@dataclass(frozen=True)
class StoreFolder:
    """The files of a store, for any number of processes at once.

    Attributes:
        path: The folder, which need not exist.
    """

    path: Path

    def blob(self, digest: str) -> Path:
        """Return the place of the content with this SHA-256."""
        return self.path / BLOBS_FOLDER / digest

    def lock(self, name: str) -> Path:
        """Return the place of a record."""
        return self.path / LOCKS_FOLDER / name

    def own(self, folder: str) -> list[Path]:
        """Return the store's files in one of its folders, without what others have put there."""
        try:
            paths = sorted((self.path / folder).iterdir())
        except FileNotFoundError:
            return []
        return [path for path in paths if _OWN_NAME.fullmatch(path.name)]

    def settled(self, folder: str) -> list[Path]:
        """Return the store's files in one of its folders, as they are at one moment.

        While a folder is read, one file may appear behind the place that was reached and another
        vanish before it. So it is read until two lists in a row are the same.
        """
        before = self.own(folder)
        while (after := self.own(folder)) != before:
            before = after
        return after

    def scratch(self) -> Path:
        """Return the place of a folder to write or to remove, made free; only within `writing`."""
        path = self.path / TEMPORARY_FOLDER / SCRATCH
        if path.exists():
            shutil.rmtree(path)
        return path

    def leftovers(self) -> list[Path]:
        """Return the files that killed writers have left; only within `writing`."""
        scratch = self.path / TEMPORARY_FOLDER / SCRATCH
        return self.own(TEMPORARY_FOLDER) + [path for path in scratch.rglob("*") if path.is_file()]

    def write(self, path: Path, data: bytes) -> None:
        """Write a file, unless it is there already; only within `writing`."""
        if read_whole(path, len(data)) == data:
            return
        # Only one process writes at a time, so whatever lies there was left over. It is replaced:
        # in a shared store it may be another user's file, or a link to one that is not shared.
        temporary = self.path / TEMPORARY_FOLDER / path.name
        temporary.unlink(missing_ok=True)
        try:
            with temporary.open("xb") as file:
                temporary.chmod(self._mode(0o666))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def explained(self) -> AbstractContextManager[None]:
        """Turn an error of the file system into a `StoreError` that says what to do about it."""
        return explained("store", str(self.path), CACHE_VARIABLE)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out.

        Raises:
            StoreError: The folder cannot be written, or another process is writing to it.
        """
        with self.explained():
            for name in (BLOBS_FOLDER, LOCKS_FOLDER, TEMPORARY_FOLDER):
                make_folder(self.path / name)
            lock = FileLock(self.path / LOCK_FILE, mode=self._mode(0o666))
            self._acquire(lock)
            try:
                yield
            finally:
                lock.release()

    def _acquire(self, lock: FileLock) -> None:
        try:
            lock.acquire(timeout=NOTICE_SECONDS)
        except Timeout:
            _LOG.warning("Waiting for another process that writes to %s", self.path)
        else:
            return
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            problem = f"another process has been writing to it for {LOCK_SECONDS:g} seconds"
            remedy = f"Wait for that process or stop it, or set {CACHE_VARIABLE}"
            raise StoreError("store", str(self.path), problem, remedy) from None

    def _mode(self, wanted: int) -> int:
        """Return the mode of the store's files: open to those to whom the store's folder is."""
        return stat.S_IMODE(self.path.stat().st_mode) & wanted


def make_folder(path: Path) -> None:
    """Make a folder where there is none, and those above it; shared where the one above it is.

    A folder is shared where its group may write to it and hands the group on, as `chmod g+ws` does.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir()
        mode = path.parent.stat().st_mode
        if mode & stat.S_ISGID and mode & stat.S_IWGRP:
            path.chmod(stat.S_IMODE(mode) & ~stat.S_IWOTH)


def read_whole(path: Path, size: int) -> bytes | None:
    """Return the content of a file of this size, None where there is none."""
    try:
        status = path.stat()
        sound = stat.S_ISREG(status.st_mode) and status.st_size == size
        return path.read_bytes() if sound else None
    except FileNotFoundError:
        return None


@contextmanager
def explained(field: str, value: str | None, variable: str) -> Iterator[None]:
    """Turn an error of the file system into one that says what to do about it."""
    try:
        yield
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename} "
        remedy = f"Check its permissions, or set {variable} to another folder"
        if error.errno in _NO_SPACE:
            remedy = f"Free some space, or set {variable} to a folder on another disk"
        problem = f"{place}cannot be used ({error.strerror})"
        raise StoreError(field, value, problem, remedy) from None
