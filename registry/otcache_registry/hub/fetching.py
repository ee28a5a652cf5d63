"""From the Hub into the local store: which documents a repository has, and fetching them whole.

A repository is resolved to a commit first, and everything is read at that commit. Only files that a
policy document has are looked at, wherever else a repository has others. A document is refused
before its files are fetched if they are too large, or if it lies where another one belongs; it
keeps none of the others from being used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.files import DOCUMENT_FILE, check_files
from otcache_registry.documents.names import parse_path
from otcache_registry.documents.references import HubReference
from otcache_registry.errors import DocumentError, DocumentNotFoundError
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.index import IndexedDocument
from otcache_registry.hub.listed import RemoteFile, Snapshot
from otcache_registry.hub.searching import Refusal
from otcache_registry.store.errors import DamagedError
from otcache_registry.store.lock_record import LockRecord
from otcache_registry.store.store import PolicyStore

__all__ = [
    "Documents",
    "Progress",
    "Pulled",
    "RemoteDocument",
    "document_files",
    "pull",
    "read_documents",
]

Progress = Callable[[int, int], None]
"""Is told the bytes that have arrived and how many there are altogether."""


@dataclass(frozen=True)
class Pulled:
    """What a pull brought.

    Attributes:
        records: The documents that are in the store now.
        refused: Those of the repository that this version cannot use.
    """

    records: tuple[LockRecord, ...]
    refused: tuple[Refusal, ...] = ()


def pull(
    client: HubClient,
    store: PolicyStore,
    repository: str,
    revision: str | None = None,
    folder: str | None = None,
    progress: Progress | None = None,
    force: bool = False,
    snapshot: Snapshot | None = None,
) -> Pulled:
    """Fetch the documents of a repository into the store, at one commit.

    What the store has whole is not fetched again.

    Args:
        client: The Hub.
        store: Where to.
        repository: Where from, "user/name".
        revision: Branch, tag or commit, None for the default branch.
        folder: Folder of the one document that is wanted, None for all.
        progress: Is told how far it is.
        force: Fetch again what the store has.
        snapshot: The repository at that revision, where it was asked for already.

    Raises:
        DocumentNotFoundError: There is no document there.
        DocumentError: The one that is wanted, or every one, is refused.
        HubError: The Hub does not give them.
        StoreError: The store cannot be written.
    """
    if snapshot is None:
        snapshot = client.snapshot(repository, revision)
    folders = document_files(snapshot)
    wanted = sorted(folders) if folder is None else [folder]
    if not folders or not set(wanted) <= folders.keys():
        field, value = ("repository", repository) if folder is None else ("folder", folder)
        remedy = f"Its documents: {', '.join(sorted(folders)) or 'none'}"
        problem = f"no policy document in {repository} at {snapshot.commit}"
        raise DocumentNotFoundError(field, value, problem, remedy)
    listing = _read_all(client, snapshot, {name: folders[name] for name in wanted})
    if not listing.documents:
        raise listing.refused[0].error
    total, before = sum(each.size for each in listing.documents), 0
    records, refused = [], list(listing.refused)
    for document in listing.documents:
        told = _part_of(progress, before, total)
        try:
            records.append(_fetch(client, store, document, revision, told, force))
        except DocumentError as error:
            refused.append(Refusal(document.source, error))
        before += document.size
    if not records:
        raise refused[0].error
    return Pulled(tuple(records), tuple(refused))


def _fetch(
    client: HubClient,
    store: PolicyStore,
    document: RemoteDocument,
    asked: str | None,
    progress: Progress | None,
    force: bool,
) -> LockRecord:
    known = None if force else _sound_record(store, document)
    if known is not None:
        return store.pulled_again(known, asked)
    contents = {DOCUMENT_FILE: document.content}
    for name, file in document.files.items():
        if name not in contents:
            contents[name] = client.content(document.repository, document.commit, file)
        if progress is not None:
            progress(sum(map(len, contents.values())), document.size)
    now = datetime.now(UTC)
    return store.add(document.repository, document.commit, document.folder, contents, now, asked)


def document_files(snapshot: Snapshot) -> dict[str, dict[str, RemoteFile]]:
    """Return the files of each document by their path inside its folder, by that folder."""
    folders: dict[str, dict[str, RemoteFile]] = {}
    for path, file in snapshot.files.items():
        place = parse_path(path)
        if place is not None:
            folders.setdefault(place.folder, {})[place.name] = file
    return {folder: files for folder, files in folders.items() if DOCUMENT_FILE in files}


@dataclass(frozen=True)
class RemoteDocument:
    """A document of a snapshot that was read, and its other files, which were not.

    Attributes:
        repository: Repository that it is in.
        commit: Commit of the repository.
        folder: Its folder there.
        document: The document.
        content: Content of its policy.json.
        files: All its files by path inside the folder.
    """

    repository: str
    commit: str
    folder: str
    document: PolicyDocument
    content: bytes = field(repr=False)
    files: Mapping[str, RemoteFile]

    @property
    def source(self) -> str:
        """Its origin as shown to users."""
        return str(HubReference(self.repository, self.commit, self.folder))

    @property
    def size(self) -> int:
        """Size of all its files in bytes."""
        return sum(file.size for file in self.files.values())


@dataclass(frozen=True)
class Documents:
    """The documents of a snapshot.

    Attributes:
        documents: Those that can be read.
        refused: Those that cannot.
    """

    documents: tuple[RemoteDocument, ...]
    refused: tuple[Refusal, ...]


def read_documents(client: HubClient, snapshot: Snapshot) -> Documents:
    """Return the documents of a repository at a commit.

    Raises:
        HubError: The Hub does not give them.
    """
    return _read_all(client, snapshot, document_files(snapshot))


def _read_all(
    client: HubClient, snapshot: Snapshot, folders: Mapping[str, Mapping[str, RemoteFile]]
) -> Documents:
    documents: list[RemoteDocument] = []
    refused: list[Refusal] = []
    for folder, files in sorted(folders.items()):
        try:
            documents.append(_read(client, snapshot, folder, files))
        except DocumentError as error:
            source = HubReference(snapshot.repository, snapshot.commit, folder)
            refused.append(Refusal(str(source), error))
    return Documents(tuple(documents), tuple(refused))


def _read(
    client: HubClient, snapshot: Snapshot, folder: str, files: Mapping[str, RemoteFile]
) -> RemoteDocument:
    check_files({name: file.size for name, file in files.items()})
    data = client.content(snapshot.repository, snapshot.commit, files[DOCUMENT_FILE])
    document, listed = IndexedDocument.of_content(data)
    # A folder's name is what a document is found by, so it must not promise another one.
    if folder != listed.folder:
        problem = f"holds the document that belongs in {listed.folder}"
        raise DocumentError("folder", folder, problem, "Ask whoever published it")
    return RemoteDocument(snapshot.repository, snapshot.commit, folder, document, data, files)


def _sound_record(store: PolicyStore, document: RemoteDocument) -> LockRecord | None:
    """Return the record of a document that the store has whole, else None."""
    try:
        record = store.record(document.repository, document.commit, document.folder)
    except DamagedError:
        return None
    sizes = {name: file.size for name, file in document.files.items()}
    if record is None or {file.path: file.size for file in record.files} != sizes:
        return None
    return None if store.verify(record) else record


def _part_of(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return what is told the progress of one document out of several."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
