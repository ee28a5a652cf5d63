"""A document as it is to be published: its files, and what a commit of it does to a repository."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from otcache_policies import FieldError
from otcache_registry.documents.card import render_card
from otcache_registry.documents.details import Describe
from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.files import (
    CARD_FILE,
    DOCUMENT_FILE,
    FIGURES_FOLDER,
    MAX_CARD_BYTES,
)
from otcache_registry.documents.folder import folder_contents, parse_policy
from otcache_registry.documents.names import document_folder
from otcache_registry.errors import DocumentError
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.committing import Changes
from otcache_registry.hub.fetching import document_files, read_documents
from otcache_registry.hub.index_card import IndexEntry, UnreadEntry, listed_before, render_index
from otcache_registry.hub.listed import RemoteFile, Snapshot

__all__ = ["PublishingError", "Release", "changes_of", "read_release"]


class PublishingError(FieldError):
    """A document that is not published, though the Hub would take it."""


@dataclass(frozen=True)
class Release:
    """A document as it is to be published.

    Attributes:
        document: The document.
        folder: The folder that it belongs into.
        contents: Content of its files by path inside that folder.
        describe: Says in the repository's card what belongs to the documents' policies.
    """

    document: PolicyDocument
    folder: str
    contents: Mapping[str, bytes]
    describe: Describe

    def files_in(self, snapshot: Snapshot) -> Mapping[str, RemoteFile]:
        """Return what a repository has in this document's place."""
        return document_files(snapshot).get(self.folder, {})

    def is_in(self, snapshot: Snapshot) -> bool:
        """Return whether a repository has exactly this document."""
        files = self.files_in(snapshot)
        return files.keys() == self.contents.keys() and all(
            files[name].holds(data) for name, data in self.contents.items()
        )


def read_release(folder: str | Path, describe: Describe) -> Release:
    contents = folder_contents(folder)
    document = parse_policy(contents, str(folder)).document
    if CARD_FILE not in contents:
        figures = _figures(contents)
        contents[CARD_FILE] = render_card(document, figures, describe(document)).encode()
    return Release(document, document_folder(document), contents, describe)


def changes_of(client: HubClient, snapshot: Snapshot, release: Release) -> Changes:
    """Return what a commit is to do on top of a snapshot."""
    own = f"{release.folder}/"
    others = {path: file for path, file in snapshot.files.items() if not path.startswith(own)}
    there = read_documents(client, dataclasses.replace(snapshot, files=others))
    entries = [
        IndexEntry(each.folder, each.document, _sha256(each.content), _figures(each.files))
        for each in there.documents
    ]
    content = release.contents[DOCUMENT_FILE]
    figures = _figures(release.contents)
    entries.append(IndexEntry(release.folder, release.document, _sha256(content), figures))
    added = {f"{own}{name}": data for name, data in release.contents.items()}
    try:
        unread = _unread(client, snapshot, [each.source for each in there.refused])
        card = render_index(snapshot.repository, entries, release.describe, unread)
    except DocumentError as error:
        problem = f"it has a document that this version cannot list in its card ({error})"
        remedy = "Update otcache, or remove that document"
        raise PublishingError("repository", snapshot.repository, problem, remedy) from None
    gone = release.files_in(snapshot).keys() - release.contents.keys()
    return Changes(
        title=f"Policy for {release.document.model.id[:100]} in {release.folder}",
        added={**added, CARD_FILE: card.encode()},
        removed=tuple(f"{own}{name}" for name in sorted(gone)),
    )


def _unread(client: HubClient, snapshot: Snapshot, sources: Iterable[str]) -> list[UnreadEntry]:
    """Return the entries of documents that this version cannot read, as the card has them now."""
    folders = [source.partition("#")[2] for source in sources]
    file = snapshot.files.get(CARD_FILE)
    known: Mapping[str, Mapping[str, object]] = {}
    if folders and file is not None and file.size <= MAX_CARD_BYTES:
        known = listed_before(client.content(snapshot.repository, snapshot.commit, file))
    return [UnreadEntry(folder, known.get(folder)) for folder in folders]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _figures(names: Iterable[str]) -> list[str]:
    paths = map(PurePosixPath, names)
    return sorted(path.name for path in paths if path.parent.name == FIGURES_FOLDER)
