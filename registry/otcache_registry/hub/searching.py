"""Searching the Hub for documents, and fetching the one that was chosen.

The cards of repositories say what documents they hold: a search takes one request for two hundred
repositories, and nothing is fetched that is not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from otcache_registry.documents.files import DOCUMENT_FILE, MAX_TABLES_BYTES, TABLES_FILE
from otcache_registry.documents.names import POLICY_TAG, is_hub_id
from otcache_registry.documents.references import HUB_PREFIX, HubReference
from otcache_registry.documents.strict_json import MAX_DOCUMENT_BYTES
from otcache_registry.errors import DocumentError
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.errors import HubContentError, HubError
from otcache_registry.hub.index import IndexedDocument, read_index

__all__ = ["HubDocument", "Listing", "Refusal", "fetch", "search"]


@dataclass(frozen=True)
class HubDocument:
    """A document on the Hub, as the card of its repository lists it.

    Attributes:
        repository: Repository that it is in, "user/name".
        commit: Commit of the repository.
        changed: When that was made, by the Hub's clock.
        listed: What the card says of it.
    """

    repository: str
    commit: str
    changed: datetime
    listed: IndexedDocument

    @property
    def folder(self) -> str:
        """Its folder in the repository."""
        return self.listed.folder

    @property
    def source(self) -> str:
        """Its origin as shown to users."""
        return str(HubReference(self.repository, self.commit, self.folder))


@dataclass(frozen=True)
class Refusal:
    """A document that cannot be used, or a repository that cannot be looked into.

    Attributes:
        source: Its origin as shown to users.
        error: Why not.
    """

    source: str
    error: DocumentError | HubError


@dataclass(frozen=True)
class Listing:
    """What was found on the Hub, or a part of it.

    Attributes:
        documents: The documents, by repository and folder.
        refused: What is there besides, and cannot be used.
    """

    documents: tuple[HubDocument, ...]
    refused: tuple[Refusal, ...]


def search(client: HubClient, namespace: str, model: str | None = None) -> Iterator[Listing]:
    """Yield a user's or organisation's documents as they come, those of a model or all.

    A repository is found by the tags that its card gives it, and its documents by what the card
    says of them: nothing is fetched. Nobody else's repositories are taken, whatever is answered. A
    model's name that cannot be one on the Hub, such as a path, is not sent there.

    Args:
        client: The Hub.
        namespace: Name of the user or organisation.
        model: Id of the model, None for all.

    Raises:
        HubError: The Hub cannot be searched.
    """
    if model is not None and not is_hub_id(model):
        return
    tags = [POLICY_TAG] if model is None else [POLICY_TAG, f"base_model:{model}"]
    for page in client.search(namespace, tags):
        documents: list[HubDocument] = []
        refused = [Refusal(f"{HUB_PREFIX}{name}", _not_asked_for(name)) for name in page.foreign]
        for found in page.found:
            listed, errors = read_index(found.card)
            documents += [
                HubDocument(found.repository, found.commit, found.changed, each)
                for each in listed
                if model in (None, each.model)
            ]
            refused += [Refusal(str(HubReference(found.repository)), error) for error in errors]
        yield Listing(tuple(documents), tuple(refused))


def _not_asked_for(name: str) -> HubContentError:
    problem = "the Hub's answer has it though it was not searched for, or says too little of it"
    return HubContentError("repository", name, problem, "Name it if it is the one you mean")


def fetch(client: HubClient, document: HubDocument) -> dict[str, bytes]:
    """Return the files that it takes to use a document, checked against what the card says of it.

    These are policy.json and the tables; the card and the figures come with a pull.

    Raises:
        DocumentError: It is refused, or another one than its card says.
        HubError: The Hub does not give it.
    """
    repository, commit, listed = document.repository, document.commit, document.listed
    path = f"{listed.folder}/{DOCUMENT_FILE}"
    content = client.content_of(repository, commit, path, listed.sha256, MAX_DOCUMENT_BYTES)
    read, says = IndexedDocument.of_content(content)
    if says != listed:
        problem = "the card of its repository says something else of it"
        raise DocumentError("folder", listed.folder, problem, "Ask whoever published it")
    contents = {DOCUMENT_FILE: content}
    if read.tables_sha256 is not None:
        path = f"{listed.folder}/{TABLES_FILE}"
        tables = client.content_of(repository, commit, path, read.tables_sha256, MAX_TABLES_BYTES)
        contents[TABLES_FILE] = tables
    return contents
