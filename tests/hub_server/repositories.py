"""The state of one repository: its commits, what names them, and who may see it."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Literal

from hub_server.messages import HubError, entry_not_found, revision_not_found

Gate = Literal["auto", "manual"]

LFS_PATTERNS = """
    *.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.mlmodel *.model *.msgpack *.npy
    *.npz *.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors *.tar *.tflite
    *.tgz *.wasm *.xz *.zip *.zst
    """
GITATTRIBUTES = "".join(
    f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS.split()
).encode()
"""The file of a new repository's first commit."""

FULL_SHA = re.compile(r"[0-9a-f]{40}")


def is_large(path: str) -> bool:
    """Whether a file is one that .gitattributes gives to LFS."""
    return any(
        fnmatch.fnmatch(path.rpartition("/")[2], pattern) for pattern in LFS_PATTERNS.split()
    )


@dataclass(frozen=True)
class Blob:
    """A file's content, and whether Git has it or a pointer to it."""

    content: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        """The content's name in LFS."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """What Git has of a file in LFS."""
        return (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{self.sha256}\nsize {len(self.content)}\n"
        ).encode()

    @cached_property
    def git_sha(self) -> str:
        """The name in Git."""
        data = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        """What the client calls the file in its cache, and what tells it that one is unchanged."""
        return self.sha256 if self.lfs else self.git_sha


@dataclass(frozen=True)
class Commit:
    """One state of all files, and how it came about."""

    sha: str
    parent: str | None
    title: str
    description: str
    author: str
    date: datetime
    blobs: Mapping[str, Blob] = field(repr=False)

    @property
    def files(self) -> dict[str, bytes]:
        """The content of each file."""
        return {path: blob.content for path, blob in self.blobs.items()}


@dataclass(frozen=True)
class PullRequest:
    """Commits that someone proposes; the last of them is at its revision.

    Attributes:
        base: The sha of the commit that it was proposed upon.
    """

    number: int
    title: str
    description: str
    author: str
    base: str
    status: Literal["open", "merged"] = "open"

    @property
    def revision(self) -> str:
        """What its commits are found by."""
        return f"refs/pr/{self.number}"


@dataclass
class Changes:
    """What a commit does to the files, in this order."""

    added: dict[str, Blob] = field(default_factory=dict)
    deleted_files: list[str] = field(default_factory=list)
    deleted_folders: list[str] = field(default_factory=list)

    def applied_to(self, blobs: Mapping[str, Blob]) -> dict[str, Blob]:
        """The files afterwards, sorted by path.

        Raises:
            HubError: What is to be deleted is not there.
        """
        changed = dict(blobs)
        for path in self.deleted_files:
            if changed.pop(path, None) is None:
                raise entry_not_found(f"A file with this name doesn't exist: {path}")
        for folder in self.deleted_folders:
            inside = [path for path in changed if path.startswith(folder.rstrip("/") + "/")]
            if not inside:
                raise entry_not_found(f"A file with this name doesn't exist: {folder}")
            for path in inside:
                del changed[path]
        return dict(sorted({**changed, **self.added}.items()))


class Repository:
    """The commits of one model repository, from the one that made it.

    Attributes:
        commits: By their sha, in the order in which they were made.
        refs: The sha that each full name stands for: refs/heads/main, refs/tags/v1, refs/pr/1.
        readers: Users who are let in though it is private, or gated.
    """

    def __init__(
        self,
        name: str,
        *,
        private: bool,
        gated: Gate | None,
        downloads: int,
        likes: int,
        created: datetime,
    ) -> None:
        self.name = name
        self.private = private
        self.gated = gated
        self.downloads = downloads
        self.likes = likes
        self.created = created
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.pull_requests: list[PullRequest] = []
        self.readers: set[str] = set()
        namespace = self.namespace
        first = Changes({".gitattributes": Blob(GITATTRIBUTES)})
        self.commit("refs/heads/main", None, first, "initial commit", "", namespace, created)

    @property
    def namespace(self) -> str:
        """The user or organisation that it belongs to."""
        return self.name.partition("/")[0]

    @property
    def head(self) -> Commit:
        """The last commit of main."""
        return self.commits[self.refs["refs/heads/main"]]

    def ref_of(self, revision: str) -> str | None:
        """The full name of a branch, tag or pull request; None for anything else."""
        candidates = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((name for name in candidates if name in self.refs), None)

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, tag, pull request or full sha stands for.

        Raises:
            HubError: There is none.
        """
        name = self.ref_of(revision)
        sha = revision if name is None else self.refs[name]
        if sha not in self.commits:
            raise revision_not_found(revision)
        return self.commits[sha]

    def history(self, revision: str) -> list[Commit]:
        """A commit and those before it, the last first.

        Raises:
            HubError: The revision does not exist.
        """
        commits = [self.resolve(revision)]
        while (parent := commits[-1].parent) is not None:
            commits.append(self.commits[parent])
        return commits

    def names(self, prefix: str) -> dict[str, str]:
        """The shas of the names that begin with a prefix, by what follows it."""
        return {
            name.removeprefix(prefix): sha
            for name, sha in self.refs.items()
            if name.startswith(prefix)
        }

    def commit(
        self,
        ref: str,
        parent: Commit | None,
        changes: Changes,
        title: str,
        description: str,
        author: str,
        date: datetime,
    ) -> Commit:
        """Add a commit after another one, and let a name stand for it.

        Raises:
            HubError: What is to be deleted is not there.
        """
        blobs = changes.applied_to({} if parent is None else parent.blobs)
        parent_sha = None if parent is None else parent.sha
        entries = [f"{blob.git_sha} {path}" for path, blob in blobs.items()]
        facts = [self.name, ref, parent_sha or "", title, description, date.isoformat(), *entries]
        sha = hashlib.sha1("\n".join(facts).encode()).hexdigest()
        commit = Commit(sha, parent_sha, title, description, author, date, blobs)
        self.commits[sha] = commit
        self.refs[ref] = sha
        return commit

    def propose(
        self,
        parent: Commit,
        changes: Changes,
        title: str,
        description: str,
        author: str,
        date: datetime,
    ) -> tuple[PullRequest, Commit]:
        """Open a pull request with one commit.

        Raises:
            HubError: What is to be deleted is not there.
        """
        number = len(self.pull_requests) + 1
        request = PullRequest(number, title, description, author, parent.sha)
        commit = self.commit(request.revision, parent, changes, title, description, author, date)
        self.pull_requests.append(request)
        return request, commit

    def merge(self, number: int, author: str, date: datetime) -> Commit:
        """Do to main what a pull request's commits did to the files."""
        request = self.pull_requests[number - 1]
        before = self.commits[request.base].blobs
        after = self.resolve(request.revision).blobs
        changes = Changes(
            added={path: blob for path, blob in after.items() if before.get(path) != blob},
            deleted_files=[path for path in before if path not in after],
        )
        title = f"{request.title} (#{number})"
        commit = self.commit("refs/heads/main", self.head, changes, title, "", author, date)
        self.pull_requests[number - 1] = replace(request, status="merged")
        return commit

    def name_commit(self, ref: str, sha: str) -> None:
        """Let a new name stand for a commit.

        Raises:
            HubError: The name stands for one already.
        """
        if ref in self.refs:
            kind = "Tag" if ref.startswith("refs/tags/") else "Branch"
            raise HubError(409, f"{kind} reference exists already: {ref}")
        self.refs[ref] = sha

    def forget_name(self, ref: str) -> None:
        """Let a name stand for nothing.

        Raises:
            HubError: It stands for nothing.
        """
        if self.refs.pop(ref, None) is None:
            raise revision_not_found(ref)


def entries(
    blobs: Mapping[str, Blob], folder: str, recursive: bool
) -> list[tuple[str, Blob | None]]:
    """The files and folders in a folder, folders first; None stands for a folder.

    Raises:
        HubError: There is no such folder.
    """
    prefix = f"{folder}/" if folder else ""
    inside = [path for path in blobs if path.startswith(prefix)]
    if not inside and folder:
        raise entry_not_found(f"{folder} does not exist")
    below = [path.removeprefix(prefix) for path in inside]
    folders = {parent for path in below for parent in _parents(path)}
    listed: Iterable[str] = [*sorted(folders), *sorted(below)]
    return [
        (prefix + path, blobs.get(prefix + path)) for path in listed if recursive or "/" not in path
    ]


def _parents(path: str) -> list[str]:
    """The folders that a file is in."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
