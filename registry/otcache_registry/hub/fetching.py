"""From the Hub into the local store: which documents there are, and fetching them whole.

A repository is resolved to a commit first, and everything is read at that commit. Only files that a
policy document has are looked at, wherever else a repository has others. A document is refused
before its files are fetched if they are too large, or if it lies where another one belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.files import DOCUMENT_FILE, check_files
from otcache_registry.documents.names import POLICY_TAG, document_folder, is_hub_id, parse_path
from otcache_registry.documents.references import HubReference
from otcache_registry.errors import DocumentError, DocumentNotFoundError
from otcache_registry.hub.client import HubClient, RemoteFile, Snapshot
from otcache_registry.hub.errors import HubAccessError, HubError, HubNotFoundError
from otcache_registry.store.errors import DamagedError
from otcache_registry.store.lock_record import LockRecord
from otcache_registry.store.store import PolicyStore

__all__ = [
    "HubDocument",
    "Listing",
    "Progress",
    "Refusal",
    "document_files",
    "fetch",
    "list_documents",
    "pull",
    "read_documents",
    "search",
]

Progress = Callable[[int, int], None]
"""Is told the bytes that have arrived and how many there are altogether."""


@dataclass(frozen=True)
class HubDocument:
    """A document on the Hub, read without its other files.

    Attributes:
        repository: Repository that it is in, "user/name".
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
    def policy(self) -> str:
        """Name of its policy."""
        return self.document.policy.name

    @property
    def model(self) -> str:
        """Id of its model."""
        return self.document.model.id

    @property
    def revision(self) -> str | None:
        """Revision of its model, None where it names none."""
        return self.document.model.revision

    @property
    def num_inference_steps(self) -> int:
        """Steps that it is for."""
        return self.document.num_inference_steps

    @property
    def source(self) -> str:
        """Its origin as shown to users."""
        return str(HubReference(self.repository, self.commit, self.folder))

    @property
    def size(self) -> int:
        """Size of all its files in bytes."""
        return sum(file.size for file in self.files.values())


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
    """What was found on the Hub.

    Attributes:
        documents: The documents, by repository and folder.
        refused: What is there besides, and cannot be used.
    """

    documents: tuple[HubDocument, ...]
    refused: tuple[Refusal, ...]


def list_documents(client: HubClient, repository: str, revision: str | None = None) -> Listing:
    """Return the documents of a repository.

    Args:
        client: The Hub.
        repository: Its name, "user/name".
        revision: Branch, tag or commit, None for the default branch.

    Raises:
        HubError: The Hub does not give them.
    """
    return read_documents(client, client.snapshot(repository, revision))


def search(client: HubClient, model: str, namespaces: Iterable[str]) -> Listing:
    """Return a model's documents in the repositories of these users and organisations.

    A repository is found by the tags that its card gives it. Nobody else's is looked at, and a name
    that is none on the Hub, such as a path, is not sent there.

    Args:
        client: The Hub.
        model: Id of the model.
        namespaces: Names of users and organisations.

    Raises:
        HubError: The Hub cannot be searched.
    """
    documents: list[HubDocument] = []
    refused: list[Refusal] = []
    for namespace in namespaces if is_hub_id(model) else ():
        for repository in client.search(namespace, (POLICY_TAG, f"base_model:{model}")):
            try:
                listing = list_documents(client, repository)
            except (HubAccessError, HubNotFoundError) as error:
                refused.append(Refusal(str(HubReference(repository)), error))
                continue
            documents += [each for each in listing.documents if each.model == model]
            refused += listing.refused
    return Listing(tuple(documents), tuple(refused))


def pull(
    client: HubClient,
    store: PolicyStore,
    repository: str,
    revision: str | None = None,
    folder: str | None = None,
    progress: Progress | None = None,
) -> tuple[LockRecord, ...]:
    """Fetch the documents of a repository into the store, at one commit.

    What the store has whole is not fetched again.

    Args:
        client: The Hub.
        store: Where to.
        repository: Where from, "user/name".
        revision: Branch, tag or commit, None for the default branch.
        folder: Folder of the one document that is wanted, None for all.
        progress: Is told how far it is.

    Raises:
        DocumentNotFoundError: There is no document there.
        DocumentError: One of them is refused; none is then fetched.
        HubError: The Hub does not give them.
        StoreError: The store cannot be written.
    """
    snapshot = client.snapshot(repository, revision)
    folders = document_files(snapshot)
    wanted = sorted(folders) if folder is None else [folder]
    if not folders or not set(wanted) <= folders.keys():
        field, value = ("repository", repository) if folder is None else ("folder", folder)
        remedy = f"Its documents: {', '.join(sorted(folders)) or 'none'}"
        problem = f"no policy document in {repository} at {snapshot.commit}"
        raise DocumentNotFoundError(field, value, problem, remedy)
    documents = [_read(client, snapshot, name, folders[name]) for name in wanted]
    total, before = sum(each.size for each in documents), 0
    records = []
    for document in documents:
        records.append(fetch(client, store, document, _part_of(progress, before, total)))
        before += document.size
    return tuple(records)


def fetch(
    client: HubClient, store: PolicyStore, document: HubDocument, progress: Progress | None = None
) -> LockRecord:
    """Fetch a document into the store, unless it is there whole.

    Raises:
        DocumentError: It is refused.
        HubError: The Hub does not give it.
        StoreError: The store cannot be written.
    """
    record = _sound_record(store, document)
    if record is not None:
        return record
    contents = {DOCUMENT_FILE: document.content}
    for name, file in document.files.items():
        if name not in contents:
            contents[name] = client.content(document.repository, document.commit, file)
        if progress is not None:
            progress(sum(map(len, contents.values())), document.size)
    now = datetime.now(UTC)
    return store.add(document.repository, document.commit, document.folder, contents, now)


def document_files(snapshot: Snapshot) -> dict[str, dict[str, RemoteFile]]:
    """Return the files of each document by their path inside its folder, by that folder."""
    folders: dict[str, dict[str, RemoteFile]] = {}
    for path, file in snapshot.files.items():
        place = parse_path(path)
        if place is not None:
            folders.setdefault(place.folder, {})[place.name] = file
    return {folder: files for folder, files in folders.items() if DOCUMENT_FILE in files}


def read_documents(client: HubClient, snapshot: Snapshot) -> Listing:
    """Return the documents of a repository at a commit.

    Raises:
        HubError: The Hub does not give them.
    """
    documents: list[HubDocument] = []
    refused: list[Refusal] = []
    for folder, files in sorted(document_files(snapshot).items()):
        try:
            documents.append(_read(client, snapshot, folder, files))
        except DocumentError as error:
            source = HubReference(snapshot.repository, snapshot.commit, folder)
            refused.append(Refusal(str(source), error))
    return Listing(tuple(documents), tuple(refused))


def _read(
    client: HubClient, snapshot: Snapshot, folder: str, files: Mapping[str, RemoteFile]
) -> HubDocument:
    check_files({name: file.size for name, file in files.items()})
    data = client.content(snapshot.repository, snapshot.commit, files[DOCUMENT_FILE])
    try:
        document = PolicyDocument.from_json(data.decode())
    except UnicodeDecodeError as error:
        remedy = "Ask who published it"
        raise DocumentError(DOCUMENT_FILE, folder, f"not UTF-8 ({error})", remedy) from None
    # A folder's name is what a document is found by, so it must not promise another one.
    own = document_folder(document)
    if folder != own:
        problem = f"holds the document that belongs into {own}"
        raise DocumentError("folder", folder, problem, "Ask who published it")
    return HubDocument(snapshot.repository, snapshot.commit, folder, document, data, files)


def _sound_record(store: PolicyStore, document: HubDocument) -> LockRecord | None:
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
