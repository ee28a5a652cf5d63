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
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otcache_policies import FieldError
from otcache_registry.documents.names import is_document_folder, is_hub_id

__all__ = [
    "COMMIT",
    "BundledReference",
    "FolderReference",
    "HubReference",
    "PolicyReference",
    "PolicyReferenceError",
    "parse_hub_reference",
    "parse_reference",
]

BUNDLED_PREFIX: Final = "bundled:"
HUB_PREFIX: Final = "hub:"

FIELD = "policy"

FORMS = "Use a document's folder, bundled:NAME, or hub:user/name[@revision][#folder]"
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
# Plain names only: Git takes none that begins with "." or "-", or that holds "..".
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
        """The revision if it is a whole commit id, which always means the same."""
        whole = self.revision is not None and COMMIT.fullmatch(self.revision)
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
        raise PolicyReferenceError(FIELD, text, "names nothing", FORMS)
    return FolderReference(Path(text))


def parse_hub_reference(text: str) -> HubReference:
    """Return what a text names on the Hub, with or without "hub:" before it.

    Raises:
        PolicyReferenceError: It cannot name a document there; the error says what can.
    """
    rest, has_folder, folder = text.removeprefix(HUB_PREFIX).partition("#")
    repository, has_revision, revision = rest.partition("@")
    if not is_hub_id(repository):
        problem = f"{repository!r} is not a repository on the Hub"
        remedy = "Use hub:user/name: letters, digits, '.', '_' and '-', up to 96 of them"
        raise PolicyReferenceError(FIELD, text, problem, remedy)
    if has_revision and not _REVISION.fullmatch(revision):
        problem = f"{revision!r} is not a revision"
        remedy = "Use a branch, a tag, a commit's 40 digits or refs/pr/N, or leave @ out"
        raise PolicyReferenceError(FIELD, text, problem, remedy)
    if has_folder and not is_document_folder(folder):
        problem = f"{folder!r} is not a document's folder"
        example = "<model revision>/<policy>/50-steps-1024x1024-1a2b3c4d"
        remedy = f"Use one such as {example}, or leave # out"
        raise PolicyReferenceError(FIELD, text, problem, remedy)
    return HubReference(repository, revision or None, folder or None)
