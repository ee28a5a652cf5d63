"""A user's own documents in the store, which a name finds before all others.

    own/<model>/<number>-<policy>-<sampling key>/     a document's folder; the last has the largest

A store may be shared, and what lies here is used without being named. So a document counts only
where nobody but its user, or root, could have written what is in it. Windows has no such owners and
modes: there whoever may write to the store's folder is trusted.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otcache_registry.documents.files import DOCUMENT_FILE, TABLES_FILE, check_files
from otcache_registry.documents.folder import StoredPolicy, folder_contents, parse_policy
from otcache_registry.documents.names import document_folder, revision_segment, sampling_key
from otcache_registry.errors import DocumentError
from otcache_registry.store.errors import RemovedError, StoreError
from otcache_registry.store.folder import StoreFolder, make_folder
from otcache_registry.store.one_moment import at_one_moment
from otcache_registry.store.pruned import Pruned

__all__ = ["Added", "Own", "OwnDocument", "OwnDocuments", "PlantedError"]

OWN_FOLDER: Final = "own"

ROOT: Final = 0
"""Id of the user who could change the package as well."""

OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

_NAME = re.compile(r"([0-9]{1,9})-[A-Za-z0-9_.-]+")


class PlantedError(StoreError):
    """A document among the user's own that another user has written, or could have."""


@dataclass(frozen=True)
class OwnDocument:
    """A document that its user has saved.

    Attributes:
        path: Its folder.
        policy: The document with its tables.
    """

    path: Path
    policy: StoredPolicy


@dataclass(frozen=True)
class Added:
    """What was saved.

    Attributes:
        document: The document as it lies in the store.
        new: Whether it was not there already.
        replaced: Folders of the documents in whose place it is.
    """

    document: OwnDocument
    new: bool
    replaced: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Own:
    """What lies among a user's own documents.

    Attributes:
        documents: The documents, of each model the one saved last first.
        refused: What cannot be used, and why, by its folder.
    """

    documents: tuple[OwnDocument, ...]
    refused: Mapping[Path, StoreError | DocumentError]


class OwnDocuments:
    """A user's own documents in a store.

    Reading needs no write permission and makes nothing. A document is there whole or not at all.

    Args:
        store: The store's folder.
    """

    def __init__(self, store: Path) -> None:
        self.folder = store / OWN_FOLDER
        self._files = StoreFolder(store)

    def add(self, contents: Mapping[str, bytes]) -> Added:
        """Save a document, in the place of one of the same policy, revision and set-up.

        Args:
            contents: Content by path inside its folder, such as "policy.json".

        Raises:
            DocumentError: The files do not make a valid document.
            StoreError: The store cannot be written, or others could write what is saved there.
        """
        check_files({path: len(data) for path, data in contents.items()})
        document = parse_policy(contents, DOCUMENT_FILE).document
        with self._files.writing():
            home = self._home(document.model.id)
            key = document_folder(document)
            before = [
                each
                for each in self._read_all([home]).documents
                if document_folder(each.policy.document) == key
            ]
            for each in before:
                if folder_contents(each.path) == contents:
                    return Added(each, new=False)
            number = max(map(_number, _listed(home)), default=0) + 1
            name = f"{number}-{document.policy.name}-{sampling_key(document.sampling)}"
            scratch = self._written(contents)
            make_folder(home)
            scratch.rename(home / name)
            replaced = tuple(each.path for each in before)
            self._discard(replaced)
            return Added(_read(home / name), new=True, replaced=replaced)

    def of(self, model: str) -> Own:
        """Return the documents of a model.

        Raises:
            StoreError: The store cannot be read.
        """
        with self._files.explained():
            return self._read_all([self._home(model)])

    def all(self) -> Own:
        """Return the documents of all models, sorted by model.

        Raises:
            StoreError: The store cannot be read.
        """
        with self._files.explained(), suppress(FileNotFoundError):
            return self._read_all(sorted(self.folder.iterdir()))
        return Own((), {})

    def named(self, text: str) -> Path | None:
        """Return the folder of a document here that a text names, None where it names none."""
        path = Path(text).absolute()
        is_one = path.parent.parent == self.folder and _NAME.fullmatch(path.name)
        return path if is_one and path.is_dir() else None

    def remove(self, paths: Sequence[Path]) -> Pruned:
        """Remove documents, also those that cannot be used.

        Args:
            paths: Their folders, as `named` returns them.

        Raises:
            StoreError: The store cannot be written.
        """
        with self._files.writing():
            files = [path for each in paths for path in sorted(each.rglob("*")) if path.is_file()]
            size = sum(path.lstat().st_size for path in files)
            self._discard(paths)
        store = self._files.path
        names = tuple(path.relative_to(store).as_posix() for path in files)
        return Pruned((), names, size, own=tuple(map(str, paths)))

    def _home(self, model: str) -> Path:
        return self.folder / revision_segment(model)

    def _read_all(self, homes: Sequence[Path]) -> Own:
        """Return what these folders held at one moment."""

        def read() -> Own:
            documents: list[OwnDocument] = []
            refused: dict[Path, StoreError | DocumentError] = {}
            for path in (path for home in homes for path in _listed(home)):
                try:
                    documents.append(_read(path))
                except RemovedError:
                    raise
                except (StoreError, DocumentError) as error:
                    refused[path] = error
            return Own(tuple(documents), refused)

        return at_one_moment(read, self.folder)

    def _written(self, contents: Mapping[str, bytes]) -> Path:
        """Write a document where nobody finds it yet; nobody else may write to it."""
        scratch = self._files.scratch()
        scratch.mkdir(mode=0o755)
        for name, data in contents.items():
            path = scratch / name
            if path.parent != scratch:
                path.parent.mkdir(mode=0o755, exist_ok=True)
            with open(path, "xb", opener=_for_its_user) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path in (scratch, *scratch.iterdir()):
            _require_own(path, path.lstat())
        return scratch

    def _discard(self, paths: Iterable[Path]) -> None:
        """Remove folders, each as a whole."""
        for path in paths:
            scratch = self._files.scratch()
            path.rename(scratch)
            shutil.rmtree(scratch)


def _listed(home: Path) -> list[Path]:
    """Return the folders of documents in a folder, the last one first."""
    try:
        paths = [path for path in home.iterdir() if _NAME.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(paths, key=_number, reverse=True)


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return 0 if match is None else int(match[1])


def _read(path: Path) -> OwnDocument:
    """Read a document.

    Raises:
        RemovedError: It is not there any more.
        PlantedError: Others have written it, or could have.
        DocumentError: It is damaged or refused, or of another model than its folder says.
    """
    try:
        return _whole(path)
    except (OSError, DocumentError) as error:
        if not path.exists():
            problem = "another process has removed it"
            raise RemovedError("own", str(path), problem, "Save it again") from None
        if isinstance(error, DocumentError):
            raise
        problem = f"{error.filename} cannot be read ({error.strerror})"
        remedy = "Save it again, or remove it with 'otcache store remove'"
        raise DocumentError("own", str(path), problem, remedy) from None


def _whole(path: Path) -> OwnDocument:
    _require_own(path, path.lstat())
    contents = {DOCUMENT_FILE: _content(path / DOCUMENT_FILE)}
    if (path / TABLES_FILE).exists():
        contents[TABLES_FILE] = _content(path / TABLES_FILE)
    policy = parse_policy(contents, str(path))
    model = policy.document.model.id
    if path.parent.name != revision_segment(model):
        problem = f"of {model}, whose documents lie elsewhere"
        raise DocumentError("own", str(path), problem, "Save it with 'otcache store add'")
    return OwnDocument(path, policy)


def _content(path: Path) -> bytes:
    """Return the content of a file that only its user can have written, and no link's."""
    with open(path, "rb", opener=_no_link) as file:
        status = os.fstat(file.fileno())
        _require_own(path, status)
        check_files({DOCUMENT_FILE: 0, path.name: status.st_size})
        return file.read(status.st_size)


def _require_own(path: Path, status: os.stat_result) -> None:
    """Check that nobody else can have written what has this status."""
    if not hasattr(os, "geteuid"):
        return
    problem = None
    if stat.S_ISLNK(status.st_mode):
        problem = "a link, and others may change what it leads to"
    elif status.st_uid not in (ROOT, os.geteuid()):
        problem = f"belongs to another user, whose id is {status.st_uid}"
    elif status.st_mode & OTHERS_WRITE:
        problem = f"others may write to it, by its mode {stat.S_IMODE(status.st_mode):o}"
    if problem is not None:
        remedy = "Look at the document; 'otcache store add' of its folder saves a copy of yours"
        raise PlantedError("own", str(path), problem, remedy)


def _for_its_user(path: str, flags: int) -> int:
    return os.open(path, flags, 0o644)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
