"""A document as it is to be published: its files, and what a commit of it does to a repository."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

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
from otcache_registry.hub.index import INDEX_KEY, IndexedDocument, read_index
from otcache_registry.hub.index_card import IndexEntry, UnreadEntry, listed_before, render_index
from otcache_registry.hub.listed import RemoteFile, Snapshot

__all__ = ["PublishingError", "Release", "changes_of", "read_release"]


class PublishingError(FieldError):
    """A document that is not published, though the Hub would take it."""


MOST_UNLISTED: Final = 100
"""Most documents that are read because a card does not list them, as of uploads by hand."""


@dataclass(frozen=True)
class Release:
    """A document as it is to be published.

    Attributes:
        document: The document.
        folder: The folder that it belongs in.
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
    """Read a document's folder; a card is rendered where it has none.

    Raises:
        DocumentNotFoundError: There is no document in that folder.
        DocumentError: The document or one of its files is refused.
        OSError: A file cannot be read.
    """
    contents = folder_contents(folder)
    document = parse_policy(contents, str(folder)).document
    if CARD_FILE not in contents:
        figures = _figures(contents)
        contents[CARD_FILE] = render_card(document, figures, describe(document)).encode()
    return Release(document, document_folder(document), contents, describe)


def changes_of(client: HubClient, snapshot: Snapshot, release: Release) -> Changes:
    """Return what a commit is to do on top of a snapshot."""
    own = f"{release.folder}/"
    listed, unread = _others(client, snapshot, release.folder)
    _, itself = IndexedDocument.of_content(release.contents[DOCUMENT_FILE])
    last = IndexEntry(release.document, itself, _figures(release.contents))
    try:
        card = render_index(snapshot.repository, last, listed, release.describe, unread).encode()
    except DocumentError as error:
        problem = f"this version cannot show it in the repository's card ({error})"
        remedy = "Update otcache, or calibrate anew"
        raise PublishingError("document", release.folder, problem, remedy) from None
    if len(card) > MAX_CARD_BYTES:
        problem = f"its card would have {len(card)} bytes, above the limit of {MAX_CARD_BYTES}"
        remedy = "Publish in another repository"
        raise PublishingError("repository", snapshot.repository, problem, remedy)
    added = {f"{own}{name}": data for name, data in release.contents.items()}
    gone = release.files_in(snapshot).keys() - release.contents.keys()
    return Changes(
        title=f"Policy for {release.document.model.id[:100]} in {release.folder}",
        added={**added, CARD_FILE: card},
        removed=tuple(f"{own}{name}" for name in sorted(gone)),
    )


def _others(
    client: HubClient, snapshot: Snapshot, own: str
) -> tuple[list[IndexedDocument], list[UnreadEntry]]:
    """Return the other documents of a repository, and those that this version cannot read.

    Only those are read that the card does not list as they are now.
    """
    others = {name: files for name, files in document_files(snapshot).items() if name != own}
    known = _listed_before(client, snapshot) if others else {}
    listed: list[IndexedDocument] = []
    unread: list[UnreadEntry] = []
    unlisted: dict[str, RemoteFile] = {}
    for folder, files in others.items():
        entry = known.get(folder, {})
        if entry.get("blob") != files[DOCUMENT_FILE].blob:
            unlisted.update({f"{folder}/{name}": file for name, file in files.items()})
        elif documents := read_index({INDEX_KEY: [entry]})[0]:
            listed += documents
        else:
            unread.append(UnreadEntry(folder, entry))
    to_read = dataclasses.replace(snapshot, files=unlisted)
    _check_count(snapshot, len(document_files(to_read)))
    there = read_documents(client, to_read)
    listed += [IndexedDocument.of_content(each.content)[1] for each in there.documents]
    folders = [each.source.partition("#")[2] for each in there.refused]
    return listed, unread + [UnreadEntry(folder, known.get(folder)) for folder in folders]


def _check_count(snapshot: Snapshot, unlisted: int) -> None:
    if unlisted > MOST_UNLISTED:
        problem = f"it has {unlisted} documents that its card does not list as they are now"
        remedy = f"Publish in another repository: at most {MOST_UNLISTED} are read for a new card"
        raise PublishingError("repository", snapshot.repository, problem, remedy)


def _listed_before(client: HubClient, snapshot: Snapshot) -> Mapping[str, Mapping[str, object]]:
    """Return what the card lists now, by folder."""
    file = snapshot.files.get(CARD_FILE)
    if file is None or file.size > MAX_CARD_BYTES:
        return {}
    return listed_before(client.content(snapshot.repository, snapshot.commit, file))


def _figures(names: Iterable[str]) -> list[str]:
    paths = map(PurePosixPath, names)
    return sorted(path.name for path in paths if path.parent.name == FIGURES_FOLDER)
