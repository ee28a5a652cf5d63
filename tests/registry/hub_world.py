"""Documents on a Hub, the registry's client on it, and how it may misbehave."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hub_server import Fault, HubServer
from hub_server.faults import FaultKind
from otcache_registry import (
    ModelReference,
    PolicyDocument,
    Publication,
    ServedBudgets,
    read_policy,
    render_card,
    write_policy,
)
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.documents.names import document_folder
from otcache_registry.documents.tables import NO_TABLES
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.errors import (
    ForbiddenError,
    GatedError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    HubServerError,
    HubUnreachableError,
    LoginError,
    RateLimitError,
)
from otcache_registry.hub.index import IndexedDocument
from otcache_registry.hub.index_card import IndexEntry, render_index
from otcache_registry.hub.patience import Patience
from otcache_registry.hub.searching import HubDocument, Refusal, search

MODEL, REVISION = "example/model", "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "alice/otcache-model"
OFFICIAL = "otcache/model"
EXACT = read_policy(BUNDLED_FOLDER / "exact-flow")
PUBLISHED = {
    "calibration": None,
    "published": Publication(authors="Somebody", source="there", paper="a paper", setting="any"),
    "budgets": ServedBudgets(smallest=8, largest=20, calibrated=(8, 10, 12, 15, 20)),
    "parameters": {**EXACT.document.parameters, "graph": None},
    "evidence": (),
    "tables_sha256": None,
}
FIGURES = {"schedules.png": b"\x89PNG schedules", "gaps.png": b"\x89PNG gaps"}


def client_of(
    hub: HubServer, token: str | None = "hf_alice", pauses: list[float] | None = None
) -> HubClient:
    """The registry's client; instead of pausing it writes down for how long it would have."""
    patience = Patience(sleep=(pauses if pauses is not None else []).append, say=silence)
    return HubClient(hub.endpoint, token, patience)


def searched(
    client: HubClient, namespace: str, model: str | None = MODEL
) -> tuple[list[HubDocument], list[Refusal]]:
    """All that a search finds in a namespace, and what cannot be used."""
    listings = list(search(client, namespace, model))
    documents = [each for listing in listings for each in listing.documents]
    return documents, [each for listing in listings for each in listing.refused]


def silence(sentence: str) -> None:
    """Say nothing of what is being waited for."""


def document_of(
    model: str = MODEL, revision: str | None = REVISION, rho: float | None = None, **changes: Any
) -> PolicyDocument:
    """The smallest bundled document, as if it was for another model; a published one for any.

    Documents of another rho differ from it in their parameters alone.
    """
    published: dict[str, Any] = {} if revision is not None else PUBLISHED
    if rho is not None:
        changes["parameters"] = {**EXACT.document.parameters, "rho": rho}
    reference = ModelReference(id=model, revision=revision)
    return EXACT.document.model_copy(update={"model": reference, **published, **changes})


def created(document: PolicyDocument, day: int) -> PolicyDocument:
    """A document as if it was calibrated on a day of January."""
    assert document.calibration is not None
    update = {"created": f"2026-01-{day:02d}T12:00:00+00:00"}
    return document.model_copy(
        update={"calibration": document.calibration.model_copy(update=update)}
    )


def write(folder: Path, document: PolicyDocument) -> Path:
    """Write a document's folder with a card and two figures; returns the folder."""
    tables = NO_TABLES if document.tables_sha256 is None else EXACT.tables
    write_policy(folder, document, tables, render_card(document, FIGURES), FIGURES)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def publish(hub: HubServer, folder: Path, document: PolicyDocument, repository: str) -> str:
    """Put a document into a repository without a client, with the tags that it is found by."""
    write(folder, document)
    if repository not in hub.repositories:
        hub.create_repo(repository)
    place = document_folder(document)
    files = {f"{place}/{name}": data for name, data in files_of(folder).items()}
    return hub.commit(repository, {"README.md": card_of(hub, repository, files), **files})


def card_of(hub: HubServer, repository: str, files: dict[str, bytes]) -> bytes:
    """The card of a repository with what it has and these files."""
    whole = {**hub.files(repository), **files}
    contents = [data for path, data in whole.items() if path.endswith("/policy.json")]
    *others, (document, listed) = map(IndexedDocument.of_content, contents)
    return render_index(
        repository, IndexEntry(document, listed), [each for _, each in others]
    ).encode()


@dataclass(frozen=True)
class Misbehaviour:
    """A way in which the Hub fails at one request.

    Attributes:
        fault: How.
        error: What the client says of it when it gives up.
        passes: Whether trying again is right, and helps when the Hub fails only once.
    """

    fault: Fault
    error: type[HubError]
    passes: bool

    def at(self, request: int, times: int | None) -> Fault:
        """The fault that befalls a request, counted from 0, or all from there on."""
        return replace(self.fault, after=request, times=times)


def _answer(status: int, error: type[HubError], code: str | None = None) -> Misbehaviour:
    fault = Fault(".*", "", "status", status=status, error_code=code)
    return Misbehaviour(fault, error, status in (429, 500, 503))


def _break(kind: FaultKind, error: type[HubError] = HubUnreachableError) -> Misbehaviour:
    return Misbehaviour(Fault(".*", "", kind, seconds=0.01), error, True)


MISBEHAVIOURS = {
    "unauthorised": _answer(401, LoginError),
    "forbidden": _answer(403, ForbiddenError),
    "missing": _answer(404, HubNotFoundError),
    "no repository": _answer(404, HubNotFoundError, "RepoNotFound"),
    "gated": _answer(403, GatedError, "GatedRepo"),
    "conflict": _answer(409, HubConflictError),
    "stale": _answer(412, HubConflictError),
    "busy": _answer(429, RateLimitError),
    "failing": _answer(500, HubServerError),
    "unavailable": _answer(503, HubServerError),
    "dropped": _break("drop"),
    "unanswered": _break("lose_answer"),
    "truncated": _break("truncate"),
    "dropped half-way": _break("drop_body"),
    "corrupt": _break("corrupt", HubError),
    "slow": _break("slow"),
    "dripping": _break("drip"),
}
"""The most usual ones, by what users would call them."""

LASTING = ("unavailable", "dropped", "unanswered", "corrupt")
"""Those of them that are tried out with a Hub that does not recover, too."""
