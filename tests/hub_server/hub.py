"""The state of a whole Hub, and what a test does to it from the inside."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from hub_server.messages import HubError, gated, repository_not_found, unauthenticated
from hub_server.repositories import (
    Blob,
    Changes,
    Commit,
    Gate,
    PullRequest,
    Repository,
    is_large,
)


@dataclass(frozen=True)
class User:
    """Someone with a token; `read` tokens change nothing."""

    name: str
    token: str
    organisations: tuple[str, ...]
    role: Literal["write", "read"]

    def owns(self, namespace: str) -> bool:
        """Whether a namespace is the user's own or that of an organisation of theirs."""
        return namespace in (self.name, *self.organisations)


class Hub:
    """Users and model repositories, in memory.

    Time is the Hub's own: it begins in 2026 and each commit takes a second. So the same steps give
    the same dates and the same shas.

    Attributes:
        upload_mode: `regular`: Git has every file. `lfs`: files that the usual .gitattributes
            names, *.safetensors and *.bin among them, are uploaded and downloaded through LFS; the
            client needs HF_HUB_DISABLE_XET for it.
        page_size: How many entries a page of a list has: trees, models, commits.
        lock: Held while state is read or changed.
    """

    def __init__(self) -> None:
        self.upload_mode: Literal["regular", "lfs"] = "regular"
        self.page_size = 1000
        self.lock = threading.RLock()
        self.users: dict[str, User] = {}
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self._seconds = itertools.count()

    def now(self) -> datetime:
        """The Hub's time, a second later each time."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(self._seconds))

    # What a test calls.

    def add_user(
        self,
        name: str,
        token: str,
        organisations: Iterable[str] = (),
        role: Literal["write", "read"] = "write",
    ) -> None:
        """Let a token be a user's, who may write under their own name and their organisations'."""
        with self.lock:
            self.users[token] = User(name, token, tuple(organisations), role)

    def create_repo(
        self,
        repo_id: str,
        private: bool = False,
        gated: Gate | bool = False,
        downloads: int = 0,
        likes: int = 0,
    ) -> None:
        """Create a repository; as on the Hub, its first commit has a .gitattributes.

        Raises:
            ValueError: It exists.
        """
        with self.lock:
            if repo_id in self.repositories:
                raise ValueError(f"{repo_id} exists")
            self.repositories[repo_id] = Repository(
                repo_id,
                private=private,
                gated="auto" if gated is True else (gated or None),
                downloads=downloads,
                likes=likes,
                created=self.now(),
            )

    def delete_repo(self, repo_id: str) -> None:
        """Delete a repository."""
        with self.lock:
            del self.repositories[repo_id]

    def grant(self, repo_id: str, user: str) -> None:
        """Let a user into a private or gated repository."""
        with self.lock:
            self.repositories[repo_id].readers.add(user)

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes],
        revision: str = "main",
        delete: Iterable[str] = (),
        message: str = "A commit",
    ) -> str:
        """Commit on a branch or pull request, without a client; returns the sha.

        A branch that does not exist begins at main.
        """
        with self.lock:
            repository = self.repositories[repo_id]
            ref = repository.ref_of(revision) or f"refs/heads/{revision}"
            parent = repository.commits[repository.refs.get(ref, repository.head.sha)]
            added = {path: self.blob(path, content) for path, content in files.items()}
            return repository.commit(
                ref, parent, Changes(added, list(delete)), message, "", "server", self.now()
            ).sha

    def commit_folder(self, repo_id: str, folder: Path, revision: str = "main") -> str:
        """Commit all files of a folder, without a client; returns the sha."""
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        return self.commit(repo_id, files, revision)

    def tag(self, repo_id: str, tag: str, revision: str = "main") -> None:
        """Tag a commit, without a client."""
        with self.lock:
            repository = self.repositories[repo_id]
            repository.name_commit(f"refs/tags/{tag}", repository.resolve(revision).sha)

    def merge_pull_request(self, repo_id: str, number: int) -> str:
        """Merge a pull request into main as its maintainers would; returns the new sha."""
        with self.lock:
            return self.repositories[repo_id].merge(number, "server", self.now()).sha

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """The content of each file, .gitattributes included."""
        with self.lock:
            return self.repositories[repo_id].resolve(revision).files

    def head(self, repo_id: str, revision: str = "main") -> str:
        """The sha that a revision stands for."""
        with self.lock:
            return self.repositories[repo_id].resolve(revision).sha

    def commits(self, repo_id: str, revision: str = "main") -> list[Commit]:
        """The commits up to a revision, the last first, the one that made the repository last."""
        with self.lock:
            return self.repositories[repo_id].history(revision)

    def branches(self, repo_id: str) -> dict[str, str]:
        """The sha of each branch."""
        with self.lock:
            return self.repositories[repo_id].names("refs/heads/")

    def tags(self, repo_id: str) -> dict[str, str]:
        """The sha of each tag."""
        with self.lock:
            return self.repositories[repo_id].names("refs/tags/")

    def pull_requests(self, repo_id: str) -> list[PullRequest]:
        """The pull requests, open or merged; `files(repo_id, request.revision)` has its files."""
        with self.lock:
            return list(self.repositories[repo_id].pull_requests)

    # What the endpoints call.

    def blob(self, path: str, content: bytes) -> Blob:
        """A file as this Hub stores it."""
        blob = Blob(content, lfs=self.upload_mode == "lfs" and is_large(path))
        if blob.lfs:
            self.objects[blob.sha256] = content
        return blob

    def may_read(self, user: User | None, repository: Repository) -> bool:
        """Whether someone may know of a repository."""
        return not repository.private or self._is_inside(user, repository)

    def readable(self, user: User | None, repo_id: str) -> Repository:
        """A repository that someone may know of.

        Raises:
            HubError: There is none, or they may not.
        """
        repository = self.repositories.get(repo_id)
        if repository is None or not self.may_read(user, repository):
            raise repository_not_found(user)
        return repository

    def downloadable(self, user: User | None, repo_id: str) -> Repository:
        """A repository whose files someone may have.

        Raises:
            HubError: There is none, they may not know of it, or its conditions are not accepted.
        """
        repository = self.readable(user, repo_id)
        if repository.gated is not None and not self._is_inside(user, repository):
            raise gated(repo_id, user)
        return repository

    def writable(self, user: User | None, repo_id: str) -> tuple[Repository, User]:
        """A repository that someone may change.

        Raises:
            HubError: There is none, they may not know of it, or not change it.
        """
        repository, user = self.proposable(user, repo_id)
        if not user.owns(repository.namespace):
            raise HubError(
                403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request"
            )
        return repository, user

    def proposable(self, user: User | None, repo_id: str) -> tuple[Repository, User]:
        """A repository that someone may propose changes to.

        Raises:
            HubError: There is none, they may not know of it, or their token may only read.
        """
        repository = self.readable(user, repo_id)
        if user is None:
            raise repository_not_found(user)
        require_write_token(user)
        return repository, user

    def _is_inside(self, user: User | None, repository: Repository) -> bool:
        return user is not None and (
            user.owns(repository.namespace) or user.name in repository.readers
        )


def require_write_token(user: User | None) -> User:
    """The user, whose token may write.

    Raises:
        HubError: There is none, or it may only read.
    """
    if user is None:
        raise unauthenticated()
    if user.role != "write":
        raise HubError(403, "This token has no permission to write: use one with the write role")
    return user
