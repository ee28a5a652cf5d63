"""What goes over the wire: a request as it was recorded, a response, and the Hub's refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request that arrived.

    Attributes:
        target: The path and the query as they were sent.
        path: The path as it was sent, still quoted.
        query: The values of each parameter, unquoted.
        headers: By their lower-case names.
        status: What was answered; None while nothing is, and when nothing ever was.
        fault: The kind of the fault that befell it.
    """

    method: str
    target: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    status: int | None = None
    fault: str | None = None

    def matches(self, method: str, target: str) -> bool:
        """Whether a regular expression is its whole method, and another one in its target."""
        return (
            re.fullmatch(method, self.method) is not None
            and re.search(target, self.target) is not None
        )

    def json(self) -> Any:
        """The body, when it is JSON."""
        return json.loads(self.body)

    def json_lines(self) -> list[Any]:
        """The body of a commit: its header, then one operation a line."""
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def token(self) -> str | None:
        """The token that came with it."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme == "Bearer" else None


@dataclass(frozen=True)
class Response:
    """A status, headers and a body; the length is added when it is sent."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of_json(
        cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        """A response with a value as JSON; what JSON lacks, dates for one, as strings."""
        body = json.dumps(value, default=str).encode()
        kind = {"Content-Type": "application/json; charset=utf-8"}
        return cls(status, {**kind, **(headers or {})}, body)


class HubError(Exception):
    """A refusal: the Hub says it in the headers that the client reads, and in the body.

    Args:
        code: What the client chooses its exception by: RepoNotFound, RevisionNotFound,
            EntryNotFound, GatedRepo.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {"X-Error-Message": message, **(headers or {})}
        if code is not None:
            self.headers["X-Error-Code"] = code

    def response(self) -> Response:
        """What is sent."""
        return Response.of_json({"error": self.message}, self.status, self.headers)


def repository_not_found(user: object | None) -> HubError:
    """A repository that is not there, or that someone may not know about."""
    if user is None:
        return HubError(401, "Invalid username or password.", "RepoNotFound")
    return HubError(404, "Repository not found", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    """A revision that is no branch, tag, pull request or commit."""
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def entry_not_found(message: str = "Entry not found", commit: str | None = None) -> HubError:
    """A file that a commit lacks; the client remembers that by the commit's name."""
    return HubError(
        404, message, "EntryNotFound", None if commit is None else {"X-Repo-Commit": commit}
    )


def gated(repository: str, user: object | None) -> HubError:
    """A file of a repository whose conditions were not accepted."""
    if user is None:
        return HubError(
            401,
            f"Access to model {repository} is restricted. You must have access to it and be"
            " authenticated to access it. Please log in.",
            "GatedRepo",
        )
    return HubError(
        403,
        f"Access to model {repository} is restricted and you are not in the authorized list."
        f" Visit https://huggingface.co/{repository} to ask for access.",
        "GatedRepo",
    )


def unauthenticated() -> HubError:
    """A request that needs a user and has none."""
    return HubError(401, "Invalid username or password.")


def wrong_token() -> HubError:
    """A token that belongs to nobody."""
    return HubError(401, "Invalid credentials in Authorization header")
