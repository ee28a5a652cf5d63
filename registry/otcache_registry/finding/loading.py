"""Reading the document that a reference names, pulled from the Hub where it has to be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otcache_policies import FieldError
from otcache_registry.documents.bundled import bundled_names, read_bundled
from otcache_registry.documents.folder import StoredPolicy, read_policy
from otcache_registry.documents.names import is_hub_id, revision_segment
from otcache_registry.documents.references import (
    FIELD,
    FORMS,
    BundledReference,
    FolderReference,
    HubReference,
    PolicyReference,
    PolicyReferenceError,
)
from otcache_registry.errors import DocumentNotFoundError
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.environment import offline
from otcache_registry.hub.errors import HubUnavailableError
from otcache_registry.hub.fetching import document_files, pull
from otcache_registry.store.errors import DamagedError
from otcache_registry.store.store import PolicyStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otcache_registry.hub.fetching import Progress
    from otcache_registry.store.lock_record import LockRecord

__all__ = ["load_reference"]


def load_reference(
    reference: PolicyReference,
    store: PolicyStore | None = None,
    client: HubClient | None = None,
    progress: Progress | None = None,
    model_revision: str | None = None,
) -> StoredPolicy:
    """Read the document that a reference names.

    One on the Hub is read from the store. It is pulled before, unless the reference names a commit
    that the store has. While the Hub is not to be asked, a reference without a revision means what
    was pulled last.

    Args:
        reference: What to read.
        store: Where pulled documents are; the user's store when left out.
        client: The Hub; huggingface_hub's when left out.
        progress: Is told how far a pull is.
        model_revision: Revision of the model that it is for. Where a repository holds several
            documents and the reference does not say which, that of this revision is meant.

    Raises:
        DocumentNotFoundError: There is no such document.
        PolicyReferenceError: The repository holds several, and nothing says which is meant.
        DocumentError: The document is damaged, or refused.
        HubError: It has to be pulled, and cannot be.
        StoreError: The store cannot be used.
    """
    if isinstance(reference, FolderReference):
        return _read_folder(reference)
    if isinstance(reference, BundledReference):
        return _read_bundled(reference)
    source = _HubSource(
        reference,
        PolicyStore() if store is None else store,
        client or HubClient(),
        progress,
        model_revision,
    )
    return source.load()


def _read_folder(reference: FolderReference) -> StoredPolicy:
    try:
        return read_policy(reference.path)
    except DocumentNotFoundError as error:
        if reference.path.exists():
            raise
        text = str(reference)
        if text in bundled_names():
            problem = f"no such folder; the bundled document is written {BundledReference(text)}"
        elif text.isidentifier():
            problem = "no folder of this name, and a policy's name alone names no document"
        elif is_hub_id(text):
            problem = f"no such folder; a repository on the Hub is written hub:{text}"
        else:
            raise
        remedy = f"{FORMS}. Bundled: {_bundled_list()}"
        raise DocumentNotFoundError(FIELD, text, problem, remedy) from error


def _read_bundled(reference: BundledReference) -> StoredPolicy:
    if reference.name not in bundled_names():
        problem, remedy = "no such bundled document", f"Bundled: {_bundled_list()}"
        raise DocumentNotFoundError(FIELD, str(reference), problem, remedy)
    return read_bundled(reference.name)


def _bundled_list() -> str:
    return ", ".join(str(BundledReference(name)) for name in bundled_names())


@dataclass(frozen=True)
class _HubSource:
    """One reference to the Hub, and what it takes to read it."""

    reference: HubReference
    store: PolicyStore
    client: HubClient
    progress: Progress | None
    model_revision: str | None

    def load(self) -> StoredPolicy:
        reference = self.reference
        known = None
        if reference.commit is not None or (offline() and reference.revision is None):
            known = self._stored()
        if known is not None:
            try:
                return self.store.open(known)
            except DamagedError:
                if offline():
                    raise
        try:
            return self.store.open(self._pull())
        except HubUnavailableError as error:
            raise self._mentioning_stored(error) from None

    def _stored(self) -> LockRecord | None:
        """Return the document that was pulled last of those that the reference may mean."""
        latest: dict[str, LockRecord] = {}
        for record in self._records():
            if self.reference.commit in (None, record.commit):
                latest.setdefault(record.folder, record)
        return latest[self._only(latest)] if latest else None

    def _records(self) -> tuple[LockRecord, ...]:
        """Return what was pulled of the repository and folder, of each folder the last first.

        Without a revision the default branch is meant: not what was pulled by another name.
        """
        wanted = self.reference
        return tuple(
            record
            for record in self.store.records()
            if record.repository == wanted.repository
            and wanted.folder in (None, record.folder)
            and (wanted.revision is not None or record.asked is None)
        )

    def _pull(self) -> LockRecord:
        reference, folder = self.reference, self.reference.folder
        snapshot = None
        if folder is None:
            snapshot = self.client.snapshot(reference.repository, reference.revision)
            folders = document_files(snapshot)
            folder = self._only(folders) if folders else None
        (record,) = pull(
            self.client,
            self.store,
            reference.repository,
            reference.revision,
            folder,
            self.progress,
            snapshot=snapshot,
        ).records
        return record

    def _only(self, folders: Iterable[str]) -> str:
        meant = sorted(folders)
        if len(meant) > 1 and self.model_revision is not None:
            segment = revision_segment(self.model_revision)
            meant = [each for each in meant if each.partition("/")[0] == segment] or meant
        first, *others = meant
        if others:
            choices = ", ".join(
                str(replace(self.reference, folder=folder)) for folder in (first, *others)
            )
            problem = f"this repository holds {1 + len(others)} documents"
            raise PolicyReferenceError(FIELD, str(self.reference), problem, f"Use {choices}")
        return first

    def _mentioning_stored(self, error: FieldError) -> FieldError:
        pulled = ", ".join(record.source for record in self._records())
        remedy = error.remedy.rstrip(".")
        remedy += f". In the store: {pulled}" if pulled else ". Nothing of it is in the store"
        return type(error)(FIELD, str(self.reference), error.problem, remedy)
