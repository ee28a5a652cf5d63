"""Committing to the Hub: what has to be uploaded beforehand, and the one request that commits.

What is uploaded beforehand is named by its content, and may be asked for any number of times.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from otcache_registry.hub.answers import LARGEST_ANSWER, Subject, oid_of, reading
from otcache_registry.hub.connection import TRANSIENT, Connection
from otcache_registry.hub.errors import CommitUnknownError, HubRefusedError
from otcache_registry.hub.transport import Request

__all__ = ["Changes", "Commit", "commit", "json_request"]

CARD: Final = "README.md"
SAMPLE: Final = 512
"""Bytes by which the Hub tells how a file is to be uploaded."""

PUBLIC_HUB: Final = "https://huggingface.co"
_LFS: Final = "application/vnd.git-lfs+json"
_LOOK = "Push again: what the Hub has by then is recognised, and not published twice"


@dataclass(frozen=True)
class Changes:
    """What a commit does.

    Attributes:
        title: What that is, in one line.
        added: Content of the files that are new or changed, by path.
        removed: Paths of the files that go.
    """

    title: str
    added: Mapping[str, bytes] = field(repr=False)
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


def commit(
    connection: Connection, repository: str, changes: Changes, parent: str, *, proposed: bool
) -> Commit:
    """Change a repository's default branch in one commit, or open a pull request with it.

    Raises:
        CommitUnknownError: It was asked for, and no answer came.
        HubError: Nothing was changed.
    """
    upload = _Upload(connection, Subject("repository", repository), repository, proposed)
    upload.check_card(changes)
    large = upload.modes(changes.added)
    upload.store(large)
    header = {"summary": changes.title, "description": "", "parentCommit": parent}
    lines = [
        {"key": "header", "value": header},
        *(_operation(path, data, path in large) for path, data in changes.added.items()),
        *({"key": "deletedFile", "value": {"path": path}} for path in changes.removed),
    ]
    body = b"\n".join(json.dumps(line).encode() for line in lines) + b"\n"
    request = upload.request("commit/main", body, "application/x-ndjson")
    try:
        made, _ = connection.json(upload.subject, request)
        with reading(upload.subject):
            return Commit(oid_of(made["commitOid"]), made.get("pullRequestUrl"))
    except TRANSIENT as error:
        unknown = CommitUnknownError(error.field, error.value, error.problem, _LOOK)
        unknown.retry_after = error.retry_after
        raise unknown from None


@dataclass(frozen=True)
class _Upload:
    """Files on their way to a repository."""

    connection: Connection
    subject: Subject
    repository: str
    proposed: bool

    def request(self, action: str, body: bytes, kind: str) -> Request:
        """Return the request for something to be done with the repository."""
        return Request(
            "POST",
            self.connection.api(f"api/models/{self.repository}/{action}"),
            {"create_pr": "1"} if self.proposed else {},
            {"Content-Type": kind},
            body,
            LARGEST_ANSWER,
        )

    def check_card(self, changes: Changes) -> None:
        """Let the Hub check the front matter of a card.

        Raises:
            HubRefusedError: It would not take it.
        """
        card = changes.added.get(CARD)
        if card is None:
            return
        content = {"repoType": "model", "content": card.decode()}
        request = json_request("POST", self.connection.api("api/validate-yaml"), content)
        try:
            self._again(request)
        except HubRefusedError as error:
            problem = f"the Hub refuses the card: {error.problem}"
            raise HubRefusedError(CARD, self.repository, problem, error.remedy) from None

    def modes(self, added: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return those of the files that the Hub keeps outside of Git."""
        files = [
            {"path": path, "size": len(data), "sample": _base64(data[:SAMPLE])}
            for path, data in added.items()
        ]
        body = json.dumps({"files": files}).encode()
        answer = self._again(self.request("preupload/main", body, "application/json"))
        with reading(self.subject):
            told = {each["path"]: each for each in answer["files"]}
            ignored = sorted(path for path in added if told[path].get("shouldIgnore"))
            large = {
                path: data
                for path, data in added.items()
                if data and told[path]["uploadMode"] != "regular"
            }
        if ignored:
            problem = f"its .gitignore keeps {', '.join(ignored[:3])} out"
            raise HubRefusedError(
                self.subject.field, self.repository, problem, "Change its .gitignore"
            )
        return large

    def store(self, files: Mapping[str, bytes]) -> None:
        """Upload the content of files where the Hub does not have it."""
        if not files:
            return
        by_oid = {hashlib.sha256(data).hexdigest(): data for data in files.values()}
        content = {
            "operation": "upload",
            "transfers": ["basic"],
            "objects": [{"oid": oid, "size": len(data)} for oid, data in by_oid.items()],
            "hash_algo": "sha256",
        }
        url = self.connection.api(f"{self.repository}.git/info/lfs/objects/batch")
        answer = self._again(json_request("POST", url, content, kind=_LFS))
        with reading(self.subject):
            for oid, actions in _actions(answer["objects"]):
                upload, verify = actions["upload"], actions.get("verify")
                self._put(upload, by_oid[oid])
                if verify is not None:
                    told = {"oid": oid, "size": len(by_oid[oid])}
                    self._again(json_request("POST", self._own(verify["href"]), told, kind=_LFS))

    def _put(self, action: Mapping[str, Any], data: bytes) -> None:
        headers = {str(name): str(value) for name, value in (action.get("header") or {}).items()}
        if "chunk_size" in headers:
            raise ValueError("it wants a file in parts, which were not offered")
        request = Request("PUT", self._own(action["href"]), headers=headers, body=data)
        self.connection.again(self.subject, lambda: self.connection.once(self.subject, request))

    def _own(self, url: str) -> str:
        """Return an address at this endpoint, where it was told as the public Hub's."""
        if url.startswith(f"{PUBLIC_HUB}/"):
            return self.connection.api(url.removeprefix(f"{PUBLIC_HUB}/"))
        return url

    def _again(self, request: Request) -> Any:
        return self.connection.again(
            self.subject, lambda: self.connection.json(self.subject, request)[0]
        )


def _operation(path: str, data: bytes, large: bool) -> dict[str, Any]:
    if large:
        oid = hashlib.sha256(data).hexdigest()
        value = {"path": path, "algo": "sha256", "oid": oid, "size": len(data)}
        return {"key": "lfsFile", "value": value}
    return {
        "key": "file",
        "value": {"content": _base64(data), "path": path, "encoding": "base64"},
    }


def _actions(objects: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what to do for each object that the Hub does not have."""
    for each in objects:
        if "error" in each:
            raise ValueError(f"it does not take {each['oid']}: {each['error']}")
        if each.get("actions"):
            yield each["oid"], each["actions"]


def json_request(
    method: str, url: str, content: Mapping[str, Any], kind: str = "application/json"
) -> Request:
    """Return a request that sends JSON and is answered in it."""
    headers = {"Content-Type": kind, "Accept": kind}
    return Request(method, url, {}, headers, json.dumps(content).encode(), LARGEST_ANSWER)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
