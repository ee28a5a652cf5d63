"""What the Hub lists: repositories that a search finds, and the files of one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from otcache_registry.hub.answers import oid_of, text_of

__all__ = ["Found", "Page", "RemoteFile", "Snapshot", "git_blob", "page_of", "snapshot_of"]


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub lists it.

    Attributes:
        path: Its path in the repository.
        size: Its size in bytes.
        blob: SHA-1 of the file as Git names it, or of the pointer to it.
        sha256: SHA-256 of its content where it is kept outside of Git, else None.
    """

    path: str
    size: int
    blob: str
    sha256: str | None

    def holds(self, data: bytes) -> bool:
        """Return whether this is the file's content."""
        if self.sha256 is not None:
            return hashlib.sha256(data).hexdigest() == self.sha256
        return git_blob(data) == self.blob


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit.

    Attributes:
        repository: Its name, "user/name".
        commit: The commit, 40 hexadecimal digits.
        private: Whether only some may see it.
        files: Its files by path.
    """

    repository: str
    commit: str
    private: bool
    files: Mapping[str, RemoteFile]


@dataclass(frozen=True)
class Found:
    """A repository that a search found.

    Attributes:
        repository: Its name, "user/name".
        commit: The last commit of its default branch.
        changed: When that was made, by the Hub's clock.
        card: What its card says in its front matter.
    """

    repository: str
    commit: str
    changed: datetime
    card: Mapping[str, Any]


@dataclass(frozen=True)
class Page:
    """A part of what a search finds.

    Attributes:
        found: The repositories.
        foreign: Names that came along and were not searched for, or cannot be read.
    """

    found: tuple[Found, ...]
    foreign: tuple[str, ...]


def git_blob(data: bytes) -> str:
    """Return the SHA-1 that Git calls a file by."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def snapshot_of(repository: str, info: Any) -> Snapshot:
    """Return what is told of a repository at a commit; anything that is wrong with it is raised."""
    files = [_remote_file(sibling) for sibling in info["siblings"]]
    by_path = {file.path: file for file in files}
    return Snapshot(repository, oid_of(info["sha"]), bool(info["private"]), by_path)


def page_of(models: Any, namespace: str) -> Page:
    """Return a part of what is told of a namespace; anything that is wrong with it is raised."""
    found, foreign = [], []
    if not isinstance(models, list):
        raise TypeError("not a list")
    for model in models:
        name = text_of(model["id"])
        if name.partition("/")[0].casefold() != namespace.casefold():
            foreign.append(name)
            continue
        try:
            changed = datetime.fromisoformat(text_of(model["lastModified"]))
            card = model.get("cardData")
            found.append(
                Found(name, oid_of(model["sha"]), changed, card if isinstance(card, dict) else {})
            )
        except (KeyError, TypeError, ValueError):
            foreign.append(name)
    return Page(tuple(found), tuple(foreign))


def _remote_file(sibling: Any) -> RemoteFile:
    lfs = sibling.get("lfs")
    sha256 = None if lfs is None else text_of(lfs["sha256"])
    return RemoteFile(
        text_of(sibling["rfilename"]), int(sibling["size"]), text_of(sibling["blobId"]), sha256
    )
