"""A policy document's folder: policy.json, the tables of its policy, the card and its figures.

The tables' file is tied to the document by its digest, so a folder is whole or it is refused.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.files import (
    CARD_FILE,
    DOCUMENT_FILE,
    FIGURES_FOLDER,
    MAX_TABLES_BYTES,
    RESTORE,
    TABLES_FILE,
    check_figures,
    check_files,
)
from otcache_registry.documents.strict_json import MAX_DOCUMENT_BYTES
from otcache_registry.documents.tables import NO_TABLES, Tables, parse_tables, tables_bytes
from otcache_registry.errors import DocumentError, DocumentNotFoundError

__all__ = [
    "StoredPolicy",
    "check_writable",
    "folder_contents",
    "parse_policy",
    "read_document",
    "read_policy",
    "write_policy",
]

_NO_FIGURES: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True)
class StoredPolicy:
    """A document together with its tables; a plugin host makes the policy of it.

    Attributes:
        document: The document.
        tables: The arrays of its policy by name, none where it has no tables. The document's
            digest stands for them where two are compared.
        source: Where it came from, as shown to users: a folder, or a name such as
            "bundled:embedded".
    """

    document: PolicyDocument
    tables: Tables = field(compare=False, repr=False)
    source: str


def read_document(path: str | Path) -> PolicyDocument:
    """Read a document without its tables.

    Args:
        path: The document's folder, or the policy.json in it.

    Raises:
        DocumentNotFoundError: There is no document at that path.
        DocumentError: The document is damaged or not valid.
    """
    return _parsed(_read(_folder_of(path) / DOCUMENT_FILE, MAX_DOCUMENT_BYTES), str(path))


def read_policy(path: str | Path, source: str | None = None) -> StoredPolicy:
    """Read a document and its tables.

    Args:
        path: The document's folder, or the policy.json in it.
        source: What to show users as its origin; the folder when left out.

    Raises:
        DocumentNotFoundError: There is no document at that path.
        DocumentError: The document is not valid, or its tables are missing, damaged, too large, or
            not those that the document was written with.

    Examples:
        >>> stored = read_policy("my-policy")
        >>> stored.document.model.id, stored.document.default_budget
        ('embedded', 15)
    """
    folder = _folder_of(path)
    contents = {DOCUMENT_FILE: _read(folder / DOCUMENT_FILE, MAX_DOCUMENT_BYTES)}
    document = _parsed(contents[DOCUMENT_FILE], str(path))
    if document.tables_sha256 is not None:
        contents[TABLES_FILE] = _read(folder / TABLES_FILE, MAX_TABLES_BYTES)
    return _policy_of(document, contents, str(folder) if source is None else source)


def parse_policy(contents: Mapping[str, bytes], source: str) -> StoredPolicy:
    """Read a document and its tables from the content of its files; nothing is written anywhere.

    Args:
        contents: Content by path inside the document's folder, such as "policy.json".
        source: What to show users as its origin.

    Raises:
        DocumentError: As `read_policy` does.
    """
    if DOCUMENT_FILE not in contents:
        raise DocumentError(DOCUMENT_FILE, None, "this file is missing", RESTORE)
    return _policy_of(_parsed(contents[DOCUMENT_FILE], source), contents, source)


def folder_contents(path: str | Path) -> dict[str, bytes]:
    """Return the content of all files of a document's folder, by path inside it; others stay out.

    Args:
        path: The document's folder, or the policy.json in it.

    Raises:
        DocumentNotFoundError: There is no document at that path.
        DocumentError: A file is too large, or not one of a document.
        OSError: A file cannot be read.
    """
    folder = _folder_of(path)
    names = [DOCUMENT_FILE, TABLES_FILE, CARD_FILE]
    figures = sorted(figure.name for figure in (folder / FIGURES_FOLDER).glob("*.png"))
    names += [f"{FIGURES_FOLDER}/{figure}" for figure in figures]
    there = [name for name in names if (folder / name).is_file()]
    check_files({name: (folder / name).stat().st_size for name in there})
    return {name: (folder / name).read_bytes() for name in there}


def _parsed(data: bytes, source: str) -> PolicyDocument:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(DOCUMENT_FILE, source, f"not UTF-8 ({error})", RESTORE) from None
    return PolicyDocument.from_json(text)


def _policy_of(
    document: PolicyDocument, contents: Mapping[str, bytes], source: str
) -> StoredPolicy:
    if document.tables_sha256 is None:
        return StoredPolicy(document, NO_TABLES, source)
    tables = contents.get(TABLES_FILE)
    if tables is None:
        raise DocumentError(TABLES_FILE, None, "this file is missing", RESTORE)
    _check_digest(document, hashlib.sha256(tables).hexdigest())
    return StoredPolicy(document, parse_tables(tables), source)


def write_policy(
    folder: str | Path,
    document: PolicyDocument,
    tables: Tables,
    card: str,
    figures: Mapping[str, bytes] = _NO_FIGURES,
) -> None:
    """Write a document's folder, all of it or nothing.

    A folder that is there already is replaced if it is empty or holds a document and nothing else.
    Everything is written beside it first, so that a failure leaves the old folder as it was.

    Args:
        folder: Where to; missing parents are made.
        document: The document, with `tables_digest(tables)` as its `tables_sha256`.
        tables: The tables of its policy, `NO_TABLES` or {} where it has none.
        card: Content of README.md.
        figures: PNG files by name, such as {"schedules.png": data}.

    Raises:
        DocumentError: The document is not valid, the tables are not the document's, a figure's
            name is not one of a PNG file, or the folder holds something else.
        OSError: The files cannot be written.
    """
    text = document.to_json()
    PolicyDocument.from_json(text)  # Copies with changes are not checked when they are made.
    contents = {DOCUMENT_FILE: text.encode(), CARD_FILE: card.encode()}
    if tables:
        contents[TABLES_FILE] = tables_bytes(tables)
        _check_digest(document, hashlib.sha256(contents[TABLES_FILE]).hexdigest())
    else:
        _check_digest(document, None)
    check_figures(figures)
    contents.update({f"{FIGURES_FOLDER}/{name}": data for name, data in figures.items()})
    target = Path(folder).resolve()
    _require_replaceable(target)
    _replace(target, contents)


def _folder_of(path: str | Path) -> Path:
    path = Path(path)
    problem = f"no {DOCUMENT_FILE} there"
    try:
        folder = path.parent if path.name == DOCUMENT_FILE and not path.is_dir() else path
        if (folder / DOCUMENT_FILE).is_file():
            return folder
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    remedy = f"Give a folder with {DOCUMENT_FILE} and {TABLES_FILE}, or its {DOCUMENT_FILE}"
    raise DocumentNotFoundError("path", str(path), problem, remedy)


def _read(path: Path, limit: int) -> bytes:
    try:
        if not path.is_file():
            raise DocumentError(path.name, str(path), "this file is missing", RESTORE)
        size = path.stat().st_size
        if size > limit:
            problem = f"{size} bytes, above the limit of {limit}"
            raise DocumentError(path.name, str(path), problem, RESTORE)
        return path.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise DocumentError(path.name, str(path), problem, "Check the file's permissions") from None


def _check_digest(document: PolicyDocument, digest: str | None) -> None:
    if digest != document.tables_sha256:
        problem = "there are no tables"
        if digest is not None:
            problem = f"{TABLES_FILE} has the digest {digest}"
        raise DocumentError("tables_sha256", document.tables_sha256, problem, RESTORE)


def check_writable(folder: str | Path) -> None:
    """Check that `write_policy` can write there, ahead of the work whose result it will write.

    Args:
        folder: Where to; nothing is left there.

    Raises:
        DocumentError: It holds something else than a document, or cannot be written.
    """
    target = Path(folder).resolve()
    try:
        _require_replaceable(target)
        existing = next(parent for parent in target.parents if parent.exists())
        # As write_policy does. Permissions alone do not tell: the file system may be read-only.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=existing):
            pass
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise DocumentError("folder", str(target), problem, "Give another folder") from None


def _require_replaceable(target: Path) -> None:
    remedy = "Give a new or empty folder, or one that holds a policy document and nothing else"
    if not target.exists():
        return
    if not target.is_dir():
        raise DocumentError("folder", str(target), "not a folder", remedy)
    entries = {entry.name for entry in target.iterdir()}
    if entries and DOCUMENT_FILE not in entries:
        problem = f"not empty, and no {DOCUMENT_FILE} in it"
        raise DocumentError("folder", str(target), problem, remedy)
    foreign = sorted(entries - {DOCUMENT_FILE, TABLES_FILE, CARD_FILE, FIGURES_FOLDER})
    if foreign:
        problem = f"replacing it would delete {', '.join(foreign[:3])}"
        raise DocumentError("folder", str(target), problem, remedy)


def _replace(target: Path, contents: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    new, old = scratch / "new", scratch / "old"
    try:
        for name, data in contents.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            if target.exists():
                target.rename(old)
            new.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    finally:
        # Should even the way back have failed, the old folder is still in there.
        if target.exists() or not old.exists():
            shutil.rmtree(scratch, ignore_errors=True)
