"""The Hugging Face Hub's client as the registry uses it: one way to ask, to try again and to fail.

Whatever only reads is tried again after a failure that may pass. A commit is not: whoever makes one
has to look first whether it was made after all. Files are fetched with a plain GET into memory and
compared with the digests that the Hub lists. The client's own download would keep a second copy
of everything in its cache, and wait as long as a busy Hub tells it to.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import tenacity
from otcache_registry.hub.errors import (
    CommitUnknownError,
    HubConflictError,
    HubContentError,
    HubError,
    HubServerError,
    HubUnreachableError,
    RateLimitError,
    explained,
    refuse_offline,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Changes", "Commit", "HubClient", "RemoteFile", "Snapshot"]

TRIES: Final = 4

LONGEST_WAIT: Final = 30.0
"""Seconds. A Hub that wants to be left alone for longer is not asked again."""

TIMEOUT: Final = 20.0
"""Seconds without a byte after which a request that only reads has failed."""

_TRANSIENT = (HubContentError, HubUnreachableError, RateLimitError, HubServerError)
_BACK_OFF = tenacity.wait_exponential(multiplier=0.5, max=8.0) + tenacity.wait_random(0.0, 0.5)
_LOOK = "Push again: what the Hub has by then is recognised, and not published twice"

Value = TypeVar("Value")


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
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == self.blob


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
class Changes:
    """What a commit does.

    Attributes:
        title: What that is, in one line.
        added: Content of the files that are new or changed, by path.
        removed: Paths of the files that go.
    """

    title: str
    added: Mapping[str, bytes]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Commit:
    """A commit that was made.

    Attributes:
        oid: Its 40 hexadecimal digits.
        pull_request: Page of the pull request that it opened, None where it opened none.
    """

    oid: str
    pull_request: str | None


@dataclass(frozen=True)
class HubClient:
    """The Hub for one user. Every method raises `HubError`, and says what it was about.

    Args:
        endpoint: Address of the Hub; huggingface_hub's own when left out, which is HF_ENDPOINT.
        token: Token to use; the one that huggingface_hub finds when left out.
        sleep: Waits for some seconds.
    """

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    sleep: Callable[[float], None] = time.sleep

    def page(self, repository: str, *parts: str) -> str:
        """Return the address of a page about a repository."""
        return "/".join((self._api().endpoint, repository, *parts))

    def user(self) -> str:
        """Return the name of the user who is logged in."""
        name: str = self._read("user", None, lambda: self._api().whoami()["name"])
        return name

    def snapshot(self, repository: str, revision: str | None = None) -> Snapshot:
        """Return the files of a repository at a branch, tag or commit, or of its default branch."""

        def ask() -> Snapshot:
            info = self._api().model_info(
                repository, revision=revision, files_metadata=True, timeout=TIMEOUT
            )
            files = [_remote_file(sibling) for sibling in info.siblings or ()]
            by_path = {file.path: file for file in files}
            return Snapshot(repository, _oid(info.sha), bool(info.private), by_path)

        asked = repository if revision is None else f"{repository}@{revision}"
        return self._read("repository", asked, ask)

    def content(self, repository: str, commit: str, file: RemoteFile) -> bytes:
        """Return a file of a commit, after comparing it with what the Hub lists."""
        from huggingface_hub import hf_hub_url

        asked = f"{repository}/{file.path}@{commit}"

        def ask() -> bytes:
            url = hf_hub_url(repository, file.path, revision=commit, endpoint=self.endpoint)
            data: bytes = self._get(url).content
            if len(data) != file.size or not file.holds(data):
                problem = "what arrived is not what the Hub lists"
                raise HubContentError("file", asked, problem, "Try again later")
            return data

        return self._read("file", asked, ask)

    def search(self, namespace: str, tags: Iterable[str]) -> tuple[str, ...]:
        """Return the names of a user's or organisation's repositories that have all these tags."""
        address = f"{self._api().endpoint}/api/models"
        wanted = {"author": namespace, "filter": list(tags), "limit": 100}

        def ask() -> tuple[str, ...]:
            response = self._get(address, wanted)
            models = response.json()
            while following := response.links.get("next"):
                # Whatever host the list says it goes on at: the token is for this one only.
                query = urlsplit(following["url"]).query
                response = self._get(f"{address}?{query}")
                models += response.json()
            return tuple(str(model["id"]) for model in models)

        return self._read("namespace", namespace, ask)

    def pull_requests(self, repository: str) -> tuple[str, ...]:
        """Return the revisions of its pull requests, such as "refs/pr/2", the newest first."""

        def ask() -> tuple[str, ...]:
            refs = self._api().list_repo_refs(repository, include_pull_requests=True)
            found = [each.ref for each in refs.pull_requests or ()]
            return tuple(sorted(found, key=lambda ref: -int(ref.rpartition("/")[2])))

        return self._read("repository", repository, ask)

    def create_repository(self, repository: str, private: bool) -> None:
        """Create a repository, which may exist already."""
        self._read(
            "repository",
            repository,
            lambda: self._api().create_repo(repository, private=private, exist_ok=True),
        )

    def commit(self, repository: str, changes: Changes, parent: str) -> Commit:
        """Change a repository's default branch in one commit, at most once.

        Args:
            repository: Its name.
            changes: What to change.
            parent: The commit that the new one must follow.

        Raises:
            HubConflictError: Another commit follows the parent.
            CommitUnknownError: No answer came. With the same parent, another try is harmless.
            HubError: Nothing was changed.
        """
        return self._commit(repository, changes, parent_commit=parent)

    def propose(self, repository: str, changes: Changes, parent: str) -> Commit:
        """Open a pull request with one commit.

        Args:
            repository: Its name.
            changes: What it is to change.
            parent: The commit that they are meant for.

        Raises:
            CommitUnknownError: No answer came. Another try might open a second one.
            HubError: Nothing was changed.
        """
        return self._commit(repository, changes, parent_commit=parent, create_pr=True)

    def tag(self, repository: str, commit: str, tag: str) -> None:
        """Let a tag stand for a commit, which it may do already.

        Raises:
            HubConflictError: It stands for another one.
        """

        def ask() -> None:
            self._api().create_tag(repository, tag=tag, revision=commit)

        try:
            self._read("tag", tag, ask)
        except HubConflictError:
            if self.snapshot(repository, tag).commit != commit:
                raise

    def retrying(self, *errors: type[HubError]) -> tenacity.Retrying:
        """Return what calls a function again while it raises one of these, for a few times."""

        def is_worth_it(error: BaseException) -> bool:
            return isinstance(error, errors) and (error.retry_after or 0) <= LONGEST_WAIT

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_worth_it),
            stop=tenacity.stop_after_attempt(TRIES),
            wait=_pause,
            sleep=self.sleep,
            reraise=True,
        )

    def _read(self, field: str, value: object, ask: Callable[[], Value]) -> Value:
        """Ask what may be asked any number of times."""
        refuse_offline(field, value)

        def once() -> Value:
            with explained(field, value, self._secrets()):
                return ask()

        return self.retrying(*_TRANSIENT)(once)

    def _commit(self, repository: str, changes: Changes, **arguments: Any) -> Commit:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        refuse_offline("repository", repository)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path, data) for path, data in changes.added.items()),
            *(CommitOperationDelete(path) for path in changes.removed),
        ]
        try:
            with explained("repository", repository, self._secrets()):
                made = self._api().create_commit(
                    repository, operations, commit_message=changes.title, **arguments
                )
                return Commit(_oid(made.oid), made.pr_url)
        except _TRANSIENT as error:
            unknown = CommitUnknownError(error.field, error.value, error.problem, _LOOK)
            unknown.retry_after = error.retry_after
            raise unknown from None

    def _get(self, url: str, query: Mapping[str, Any] | None = None) -> Any:
        from huggingface_hub import get_session
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented
            build_hf_headers,
            hf_raise_for_status,
        )

        headers = build_hf_headers(token=self.token, **_library())
        response = get_session().get(url, params=query, headers=headers, timeout=TIMEOUT)
        hf_raise_for_status(response)
        return response

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token, **_library())

    def _secrets(self) -> tuple[str | None, ...]:
        from huggingface_hub import get_token

        return self.token, get_token()


def _pause(state: tenacity.RetryCallState) -> float:
    """Return the seconds to wait: those that the Hub names, else more after every failure."""
    error = None if state.outcome is None else state.outcome.exception()
    if isinstance(error, HubError) and error.retry_after is not None:
        return error.retry_after
    return _BACK_OFF(state)


def _library() -> dict[str, Any]:
    return {"library_name": "otcache", "library_version": version("otcache-plugin")}


def _remote_file(sibling: Any) -> RemoteFile:
    sha256 = None if sibling.lfs is None else sibling.lfs.sha256
    return RemoteFile(sibling.rfilename, int(sibling.size), str(sibling.blob_id), sha256)


def _oid(text: Any) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", text):
        raise ValueError(f"{text!r} is no commit")
    return str(text)
