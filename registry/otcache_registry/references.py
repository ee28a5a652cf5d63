"""Policies named by text: a document's folder, a bundled document, or one on the Hub.

    ./my-policy                                  a folder, or the policy.json in it
    bundled:NAME                                 a document that ships with the package
    hub:user/name[@revision][#folder]            a document in a repository on the Hub

A revision is a branch, a tag, a commit or refs/pr/N; without one, the default branch is meant. The
folder says which document, where a repository holds several. Commit and folder together name one
document for good: it is read from the local store without asking the Hub, once it was pulled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otcache_policies import FieldError

from .bundled import BUNDLED_FOLDER
from .errors import DocumentNotFoundError
from .folder import DOCUMENT_FILE, StoredPolicy, read_policy
from .keys import is_hub_id, parse_path, revision_segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .fetching import Progress
    from .hub_client import HubClient
    from .lockfile import LockRecord
    from .store import PolicyStore

__all__ = [
    "BundledReference",
    "FolderReference",
    "HubReference",
    "PolicyReference",
    "PolicyReferenceError",
    "load_reference",
    "parse_hub_reference",
    "parse_reference",
]

BUNDLED_PREFIX: Final = "bundled:"
HUB_PREFIX: Final = "hub:"

FIELD = "policy"

_FORMS = "Use a document's folder, bundled:NAME, or hub:user/name[@revision][#folder]"
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Plain names only: one that begins with "." or "-", or holds "..", is none that Git takes.
_REVISION = re.compile(
    r"(?!.*\.\.)(?!.{201})[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"
)


class PolicyReferenceError(FieldError):
    """Text that names no policy document, or more than one."""


@dataclass(frozen=True)
class FolderReference:
    """A document's folder, or the policy.json in it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class BundledReference:
    """A document that ships with the package."""

    name: str

    def __str__(self) -> str:
        return f"{BUNDLED_PREFIX}{self.name}"


@dataclass(frozen=True)
class HubReference:
    """A document in a repository on the Hub.

    Attributes:
        repository: Its name, "user/name".
        revision: Branch, tag, commit or refs/pr/N; None for the default branch.
        folder: Folder of the document, None where the repository holds only one.
    """

    repository: str
    revision: str | None = None
    folder: str | None = None

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        folder = "" if self.folder is None else f"#{self.folder}"
        return f"{HUB_PREFIX}{self.repository}{revision}{folder}"

    @property
    def commit(self) -> str | None:
        """The revision where it is a whole commit id, which never means anything else."""
        whole = self.revision is not None and _COMMIT.fullmatch(self.revision)
        return self.revision if whole else None


PolicyReference = FolderReference | BundledReference | HubReference


def parse_reference(text: str) -> PolicyReference:
    """Return what a text names; nothing is looked up.

    Raises:
        PolicyReferenceError: It cannot name a document; the error says what can.
    """
    if text.startswith(BUNDLED_PREFIX):
        return BundledReference(text.removeprefix(BUNDLED_PREFIX))
    if text.startswith(HUB_PREFIX):
        return parse_hub_reference(text)
    if not text or "\0" in text:
        raise PolicyReferenceError(FIELD, text, "names nothing", _FORMS)
    return FolderReference(Path(text))


def parse_hub_reference(text: str) -> HubReference:
    """Return what a text names on the Hub, with or without "hub:" before it.

    Raises:
        PolicyReferenceError: It is no such name.
    """
    rest, has_folder, folder = text.removeprefix(HUB_PREFIX).partition("#")
    repository, has_revision, revision = rest.partition("@")
    if not is_hub_id(repository):
        problem = f"{repository!r} is no repository on the Hub"
        remedy = "Use hub:user/name: letters, digits, '.', '_' and '-', up to 96 of them"
        raise PolicyReferenceError(FIELD, text, problem, remedy)
    if has_revision and not _REVISION.fullmatch(revision):
        problem = f"{revision!r} is no revision"
        remedy = "Use a branch, a tag, a commit's 40 digits or refs/pr/N, or leave @ out"
        raise PolicyReferenceError(FIELD, text, problem, remedy)
    if has_folder and parse_path(f"{folder}/{DOCUMENT_FILE}") is None:
        problem = f"{folder!r} is no document's folder"
        remedy = "Use one such as <model revision>/50-steps-1024x1024-1a2b3c4d, or leave # out"
        raise PolicyReferenceError(FIELD, text, problem, remedy)
    return HubReference(repository, revision or None, folder or None)


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
    from .hub_client import HubClient
    from .store import PolicyStore

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
        text = str(reference)
        if text.isidentifier():
            problem = "no folder of this name, and a policy's name alone names no document"
        elif is_hub_id(text) and not reference.path.exists():
            problem = f"no such folder; a repository on the Hub is written hub:{text}"
        else:
            raise
        remedy = f"{_FORMS}. Bundled: {_bundled_list()}"
        raise DocumentNotFoundError(FIELD, text, problem, remedy) from error


def _read_bundled(reference: BundledReference) -> StoredPolicy:
    if reference.name not in _bundled_names():
        problem, remedy = "no such bundled document", f"Bundled: {_bundled_list()}"
        raise DocumentNotFoundError(FIELD, str(reference), problem, remedy)
    return read_policy(BUNDLED_FOLDER / reference.name, source=str(reference))


def _bundled_names() -> list[str]:
    return sorted(path.parent.name for path in BUNDLED_FOLDER.glob(f"*/{DOCUMENT_FILE}"))


def _bundled_list() -> str:
    return ", ".join(str(BundledReference(name)) for name in _bundled_names())


@dataclass(frozen=True)
class _HubSource:
    """One reference to the Hub, and what it takes to read it."""

    reference: HubReference
    store: PolicyStore
    client: HubClient
    progress: Progress | None
    model_revision: str | None

    def load(self) -> StoredPolicy:
        from .hub_errors import HubUnavailableError
        from .settings import offline
        from .store import DamagedError

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
        """Return what was pulled of the repository and folder, of each folder the last first."""
        return tuple(
            record
            for record in self.store.records()
            if record.repository == self.reference.repository
            and self.reference.folder in (None, record.folder)
        )

    def _pull(self) -> LockRecord:
        from .fetching import document_files, pull

        reference, folder = self.reference, self.reference.folder
        commit = reference.revision
        if folder is None:
            snapshot = self.client.snapshot(reference.repository, reference.revision)
            commit = snapshot.commit
            folders = document_files(snapshot)
            folder = self._only(folders) if folders else None
        (record,) = pull(
            self.client, self.store, reference.repository, commit, folder, self.progress
        )
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
