"""What the path that something was loaded from says: a snapshot of the Hub's cache, or a download.

A path is where a module says it came from, `config._name_or_path`. It may have been copied to
other weights, so what it says of a module is a claim.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented

SHA = re.compile(r"[0-9a-f]{40}")
_SNAPSHOT = re.compile(
    r"(?:^|[/\\])models--(?P<repo>[^/\\]+)[/\\]snapshots[/\\](?P<sha>[0-9a-f]{40})"
    r"(?:[/\\](?P<inner>.*?))?[/\\]?$"
)
_CLOCK_TOLERANCE = 1.0
"""Seconds by which a file may seem younger than the record of its download, as for the client."""


@dataclass(frozen=True)
class SnapshotPath:
    """A path within a snapshot of the Hub's cache.

    Attributes:
        model: Hub id.
        revision: commit sha.
        inner: the path within the repository; empty for its root.
    """

    model: str
    revision: str
    inner: str


def parse_snapshot(path: str) -> SnapshotPath | None:
    """Read a path; None when it does not lie in a snapshot."""
    match = _SNAPSHOT.search(path)
    if match is None:
        return None
    return SnapshotPath(match["repo"].replace("--", "/", 1), match["sha"], match["inner"] or "")


def is_repository_id(text: str) -> bool:
    """Return whether a text can be a repository's id; an existing folder's name is a folder."""
    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return not Path(text).is_dir()


def repository_of(path: str) -> str | None:
    """Return the Hub id that a path names, as one or as a snapshot; None when it names none."""
    snapshot = parse_snapshot(path)
    if snapshot is not None:
        return snapshot.model
    return path if is_repository_id(path) else None


def downloaded_commits(folder: Path) -> tuple[str, ...]:
    """Return commits that the files of a pipeline's subfolder were downloaded at, by `local_dir=`.

    The client records the commit of each file, not the repository. Nothing is concluded when a
    file has no record, or was changed after it.
    """
    records = folder.parent / ".cache" / "huggingface" / "download" / folder.name
    try:
        commits = {
            _downloaded_commit(file, records / f"{file.name}.metadata")
            for file in folder.iterdir()
            if file.is_file()
        }
    except (OSError, ValueError):
        return ()
    return tuple(sorted(commits))


def _downloaded_commit(file: Path, record: Path) -> str:
    commit, _, saved = record.read_text(encoding="utf-8").split()
    if not SHA.fullmatch(commit) or file.stat().st_mtime - _CLOCK_TOLERANCE > float(saved):
        raise ValueError(f"{record} is not of this file")
    return commit
