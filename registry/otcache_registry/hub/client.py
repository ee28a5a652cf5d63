"""The Hugging Face Hub as the registry uses it: one way to ask, to try again and to fail.

Whatever only reads is tried again after a failure that may pass. A commit is not: whoever makes one
has to look first whether it was made after all. Files are fetched into memory and compared with
what they must be. What came is compared with what was asked for: the repository, the commit, whose
repositories a search brings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final
from urllib.parse import quote, urlsplit

from otcache_registry.documents.references import COMMIT
from otcache_registry.hub import errors
from otcache_registry.hub.answers import LARGEST_ANSWER, Subject, reading, text_of
from otcache_registry.hub.committing import Changes, Commit, commit, json_request
from otcache_registry.hub.connection import Connection, refuse_asking
from otcache_registry.hub.environment import endpoint_of
from otcache_registry.hub.errors import (
    HubConflictError,
    HubContentError,
    HubNotFoundError,
    HubRefusedError,
)
from otcache_registry.hub.listed import Page, RemoteFile, Snapshot, page_of, snapshot_of
from otcache_registry.hub.patience import Patience
from otcache_registry.hub.transport import Request

__all__ = ["HubClient"]

PAGE: Final = 200
"""Repositories that are asked for at a time."""

MOST_PAGES: Final = 100
"""Pages of a list that are followed."""


@dataclass(frozen=True)
class HubClient:
    """The Hub for one user. What fails raises a `HubError` that says what was asked for.

    Args:
        endpoint: Address of the Hub; huggingface_hub's own when left out, which is HF_ENDPOINT.
        token: Token to use; the one that huggingface_hub finds when left out.
        patience: How long the Hub is waited for altogether, from when the client is made.
    """

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    patience: Patience = field(default_factory=Patience)

    def within(self, seconds: float) -> HubClient:
        """Return a client that has no more than some seconds from now on."""
        return replace(self, patience=self.patience.at_most(seconds))

    @property
    def identity(self) -> str:
        """What tells one Hub's answers to one user from all others, and reveals neither of them."""
        connection = self._connection
        facts = (connection.endpoint.address, connection.token or connection.endpoint.login or "")
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def page(self, repository: str, *parts: str) -> str:
        """Return the address of a page about a repository."""
        return "/".join((self._connection.endpoint.address, repository, *parts))

    def user(self) -> str:
        """Return the name of the user who is logged in."""
        subject = Subject("user", None)
        refuse_asking(subject)
        if self._connection.token is None and self._connection.endpoint.login is None:
            raise errors.no_login(subject.field, subject.value)

        def ask() -> str:
            answer, _ = self._connection.json(subject, self._api_request("whoami-v2"))
            with reading(subject):
                return text_of(answer["name"])

        return self._connection.again(subject, ask)

    def snapshot(self, repository: str, revision: str | None = None) -> Snapshot:
        """Return the files of a repository at a branch, tag or commit, or of its default branch."""
        asked = repository if revision is None else f"{repository}@{revision}"
        subject = Subject("repository", asked)
        _check_name(repository, subject)
        path = f"models/{repository}"
        path += "" if revision is None else f"/revision/{quote(revision, safe='')}"

        def ask() -> Snapshot:
            info, _ = self._connection.json(subject, self._api_request(path, blobs="true"))
            with reading(subject):
                _check_same(subject, text_of(info["id"]), repository)
                snapshot = snapshot_of(repository, info)
            if revision is not None and COMMIT.fullmatch(revision) and snapshot.commit != revision:
                raise errors.moved(subject.field, subject.value, snapshot.commit)
            return snapshot

        return self._connection.again(subject, ask)

    def content(self, repository: str, commit: str, file: RemoteFile) -> bytes:
        """Return a file of a commit, after comparing it with what the Hub lists."""
        return self._file(repository, commit, file.path, file.size, file.holds)

    def content_of(self, repository: str, commit: str, path: str, sha256: str, size: int) -> bytes:
        """Return a file of a commit after comparing it with what is known of its content.

        Args:
            repository: Name of the repository.
            commit: A commit of it.
            path: Path of the file in it.
            sha256: SHA-256 of the content.
            size: Most bytes that it may have.
        """
        return self._file(
            repository, commit, path, size, lambda data: hashlib.sha256(data).hexdigest() == sha256
        )

    def search(self, namespace: str, tags: Iterable[str]) -> Iterator[Page]:
        """Yield a user's or organisation's repositories that have all these tags, as they come."""
        subject = Subject("namespace", namespace)
        wanted: dict[str, str | list[str]] = {
            "author": namespace,
            "filter": list(tags),
            "limit": str(PAGE),
            "expand": ["cardData", "sha", "lastModified"],
        }
        request = self._api_request("models", **wanted)
        for _ in range(MOST_PAGES):

            def ask(request: Request = request) -> tuple[Page, str | None]:
                models, answer = self._connection.json(subject, request)
                with reading(subject):
                    return page_of(models, namespace), _following(answer.headers.get("link", ""))

            page, query = self._connection.again(subject, ask)
            yield page
            if query is None:
                return
            # Whatever host the list says it goes on at: the token is for this one only.
            url = f"{self._connection.api('api/models')}?{query}"
            request = Request("GET", url, largest=LARGEST_ANSWER)
        raise errors.oversize(subject.field, subject.value, f"more than {MOST_PAGES} pages")

    def pull_requests(self, repository: str) -> tuple[str, ...]:
        """Return the revisions of its pull requests, such as "refs/pr/2", the newest first."""
        subject = Subject("repository", repository)
        _check_name(repository, subject)

        def ask() -> tuple[str, ...]:
            path = f"models/{repository}/refs"
            refs, _ = self._connection.json(subject, self._api_request(path, include_prs="1"))
            with reading(subject):
                found = [text_of(each["ref"]) for each in refs.get("pullRequests") or ()]
                return tuple(sorted(found, key=lambda ref: -int(ref.rpartition("/")[2])))

        return self._connection.again(subject, ask)

    def create_repository(self, repository: str, private: bool) -> bool:
        """Create a repository; return True, or False where there is one already."""
        subject = Subject("repository", repository)
        _check_name(repository, subject)
        content = {**_named(repository), "private": private}
        request = json_request("POST", self._connection.api("api/repos/create"), content)

        def ask() -> bool:
            self._connection.json(subject, request)
            return True

        try:
            return self._connection.again(subject, ask)
        except HubConflictError as error:
            try:
                self.snapshot(repository)
            except HubNotFoundError:
                raise error from None
            return False

    def delete_repository(self, repository: str) -> None:
        """Delete a repository."""
        subject, url = Subject("repository", repository), self._connection.api("api/repos/delete")
        request = json_request("DELETE", url, _named(repository))
        self._connection.again(subject, lambda: self._connection.once(subject, request))

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
        return commit(self._connection, repository, changes, parent, proposed=False)

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
        return commit(self._connection, repository, changes, parent, proposed=True)

    def tag(self, repository: str, commit: str, tag: str) -> None:
        """Let a tag stand for a commit, which it may do already.

        Raises:
            HubConflictError: It stands for another one.
        """
        subject = Subject("tag", tag)
        url = self._connection.api(f"api/models/{repository}/tag/{commit}")
        request = json_request("POST", url, {"tag": tag})
        try:
            self._connection.again(subject, lambda: self._connection.once(subject, request))
        except HubConflictError:
            if self.snapshot(repository, tag).commit != commit:
                raise
            return
        # Whatever was answered: it is set when it can be seen.
        if self.snapshot(repository, tag).commit != commit:
            raise errors.unreadable("tag", tag, "it says that it is set, and it is not")

    def _file(
        self, repository: str, commit: str, path: str, size: int, holds: Callable[[bytes], bool]
    ) -> bytes:
        asked = f"{repository}/{path}@{commit}"
        subject = Subject("file", asked)
        url = self._connection.api(f"{repository}/resolve/{quote(commit, safe='')}/{quote(path)}")

        def ask() -> bytes:
            first, answer = self._connection.followed(subject, Request("GET", url, largest=size))
            named = first.headers.get("x-repo-commit", commit)
            if COMMIT.fullmatch(commit) and named != commit:
                raise errors.moved(subject.field, subject.value, named)
            if not holds(answer.body):
                problem = "what arrived is not what the Hub lists"
                raise HubContentError("file", asked, problem, "Try again later")
            return answer.body

        return self._connection.again(subject, ask)

    def _api_request(self, path: str, **query: str | list[str]) -> Request:
        return Request("GET", self._connection.api(f"api/{path}"), query, largest=LARGEST_ANSWER)

    @cached_property
    def _connection(self) -> Connection:
        from huggingface_hub import constants, get_token

        endpoint = endpoint_of(constants.ENDPOINT if self.endpoint is None else self.endpoint)
        token = self.token
        if token is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
            token = get_token()
        return Connection(endpoint, token, self.patience)


def _check_name(repository: str, subject: Subject) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        problem = f"not a name on the Hub ({error})"
        raise HubRefusedError(
            subject.field, subject.value, problem, "Use one such as user/name"
        ) from None


def _check_same(subject: Subject, found: str, asked: str) -> None:
    # Old models go by a name without an owner, and the Hub answers with their full name.
    if "/" in asked and found.casefold() != asked.casefold():
        raise errors.moved(subject.field, subject.value, found)


def _following(link: str) -> str | None:
    """Return the query of the next page, by the header that names it."""
    match = re.search(r'<([^<>]*)>\s*;\s*rel="?next"?', link)
    return None if match is None else urlsplit(match[1]).query


def _named(repository: str) -> dict[str, str]:
    namespace, _, name = repository.rpartition("/")
    return {"name": name, "organization": namespace, "type": "model"}
