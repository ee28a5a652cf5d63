"""The local store: pulled policy documents, each file once, checked whenever it is used.

Blobs are written first and the record last, so readers need no lock and see a document whole or not
at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from datetime import datetime
from pathlib import Path

from otcache_registry.documents.files import DOCUMENT_FILE, check_files
from otcache_registry.documents.folder import StoredPolicy, parse_policy
from otcache_registry.documents.refusals import document_error
from otcache_registry.errors import DocumentError
from otcache_registry.store.errors import DamagedError, RemovedError, StoreError
from otcache_registry.store.folder import (
    BLOBS_FOLDER,
    LOCKS_FOLDER,
    StoreFolder,
    default_store_folder,
    read_whole,
)
from otcache_registry.store.lock_record import LockRecord, StoredFile, lock_name
from otcache_registry.store.pruned import Pruned
from pydantic import ValidationError

__all__ = ["PolicyStore"]

MAX_LOCK_BYTES = 2**20

_PULL_AGAIN = "Pull the document again, which repairs it"


Found = LockRecord | DamagedError


class PolicyStore:
    """Pulled policy documents in a folder, for any number of processes at once.

    Reading needs no write permission and makes nothing, not even the folder.

    Args:
        folder: Where they are kept; `default_store_folder()` when left out.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = default_store_folder() if folder is None else Path(folder).absolute()
        self._files = StoreFolder(self.folder)

    def add(
        self,
        repository: str,
        commit: str,
        folder: str,
        contents: Mapping[str, bytes],
        pulled: datetime,
        asked: str | None = None,
    ) -> LockRecord:
        """Keep a document, all of it or nothing; one that is there already is repaired.

        Args:
            repository: Where it comes from, "user/name".
            commit: Commit of that repository, 40 hexadecimal digits.
            folder: Folder of the document inside the repository, "" for its root.
            contents: Content by path inside that folder, such as "policy.json".
            pulled: When it was pulled, with time zone.
            asked: Revision that was asked for, None for the default branch.

        Raises:
            DocumentError: The files do not make a valid document.
            StoreError: The repository, commit, folder or time cannot be one, or the store cannot
                be written.
        """
        check_files({path: len(data) for path, data in contents.items()})
        document = parse_policy(contents, repository).document
        try:
            record = LockRecord(
                repository=repository,
                commit=commit,
                folder=folder,
                policy=document.policy.name,
                model=document.model.id,
                revision=document.model.revision,
                num_inference_steps=document.num_inference_steps,
                files=tuple(_stored_file(path, contents[path]) for path in sorted(contents)),
                pulled=pulled,
                serial=0,
                asked=asked,
            )
        except ValidationError as error:
            raise StoreError(*document_error(error).args) from None
        with self._files.writing():
            for file in record.files:
                self._files.write(self._files.blob(file.sha256), contents[file.path])
            return self._noted(record)

    def pulled_again(self, record: LockRecord, asked: str | None = None) -> LockRecord:
        """Note that a document was pulled once more, which makes it the one pulled last.

        Args:
            record: The document, which the store has.
            asked: Revision that was asked for, None for the default branch.

        Raises:
            StoreError: The store cannot be written.
        """
        with self._files.writing():
            return self._noted(record.model_copy(update={"asked": asked}))

    def _noted(self, record: LockRecord) -> LockRecord:
        """Write a record as the last one; only within `writing`."""
        known = self._records()
        last = max((each.serial for each in _by_pull(known)), default=0)
        before = known.get(record.file_name)
        update: dict[str, int | None] = {"serial": last + 1}
        if isinstance(before, LockRecord):
            update["serial"] = last + (before.serial != last)
            # Once of the default branch it stays that, whatever else its commit is called later.
            update |= {"asked": None} if before.asked is None else {}
        noted = record.model_copy(update=update)
        self._files.write(self._files.lock(noted.file_name), noted.to_json().encode())
        return noted

    def records(self) -> tuple[LockRecord, ...]:
        """Return all documents, by repository and folder, the one pulled last first.

        Those whose record is damaged are not among them; `problems` has them.

        Raises:
            StoreError: The store cannot be read.
        """
        latest_first = _by_pull(self._records())[::-1]
        return tuple(sorted(latest_first, key=lambda record: (record.repository, record.folder)))

    def problems(self) -> tuple[DamagedError, ...]:
        """Return what is wrong with records that cannot be read, none for a sound store.

        Raises:
            StoreError: The store cannot be read.
        """
        return tuple(each for each in self._records().values() if isinstance(each, DamagedError))

    def damaged(self) -> tuple[str, ...]:
        """Return the file names of records that cannot be read.

        Raises:
            StoreError: The store cannot be read.
        """
        found = self._records()
        return tuple(name for name, each in found.items() if isinstance(each, DamagedError))

    def find(self, model: str, revision: str | None = None) -> tuple[LockRecord, ...]:
        """Return the documents of a model, the one pulled last first.

        Args:
            model: The model's id, as in the document.
            revision: Exact revision of the weights, None for any.

        Raises:
            StoreError: The store cannot be read.
        """
        return tuple(
            record
            for record in _by_pull(self._records())[::-1]
            if record.model == model and revision in (None, record.revision)
        )

    def record(self, repository: str, commit: str, folder: str = "") -> LockRecord | None:
        """Return the record of one document, None where it was not pulled.

        Raises:
            DamagedError: The record is damaged.
            StoreError: The store cannot be read.
        """
        return self._read_record(self._files.lock(lock_name(repository, commit, folder)))

    def open(self, record: LockRecord) -> StoredPolicy:
        """Read a document, after checking every file of it.

        Raises:
            RemovedError: It was removed meanwhile.
            DamagedError: Files are missing or damaged; adding the document again repairs it.
            DocumentError: This version refuses the document, though its files are as pulled.
            StoreError: The store cannot be read.
        """
        policy = parse_policy(self.contents(record), record.source)
        document = policy.document
        stated = record.policy, record.model, record.revision, record.num_inference_steps
        if stated != (
            document.policy.name,
            document.model.id,
            document.model.revision,
            document.num_inference_steps,
        ):
            problem = f"says another policy, model or number of steps than {DOCUMENT_FILE}"
            raise DamagedError("lock", (record.file_name,), problem, _PULL_AGAIN)
        return policy

    def contents(self, record: LockRecord) -> dict[str, bytes]:
        """Return the content of a document's files by path, after checking every one.

        Raises:
            RemovedError: It was removed meanwhile.
            DamagedError: Files are missing or damaged; adding the document again repairs it.
            StoreError: The store cannot be read.
        """
        contents = {file.path: self._content(file) for file in record.files}
        damaged = tuple(path for path, data in contents.items() if data is None)
        if damaged and self.record(record.repository, record.commit, record.folder) is None:
            problem = f"another process has removed {record.source}"
            raise RemovedError("files", damaged, problem, "Pull the document again")
        if damaged:
            problem = f"missing or damaged in the store's copy of {record.source}"
            raise DamagedError("files", damaged, problem, _PULL_AGAIN)
        return {path: data for path, data in contents.items() if data is not None}

    def verify(self, record: LockRecord) -> tuple[str, ...]:
        """Return the paths of a document's files that are missing or damaged.

        Raises:
            StoreError: The store cannot be read.
        """
        return tuple(file.path for file in record.files if self._content(file) is None)

    def remove(self, *names: str) -> Pruned:
        """Remove documents, and all files that no other document has.

        Args:
            names: File names of their records, which may be damaged.

        Raises:
            StoreError: The store cannot be written.
        """
        with self._files.writing():
            records = self._records()
            return self._keep_only(records.keys() - set(names), records)

    def prune(self, keep: Iterable[LockRecord] = ()) -> Pruned:
        """Remove what is not needed.

        That is: a document where the same folder of its repository was pulled at another commit
        later, damaged records, files that belong to no document, and leftovers of killed processes.
        A commit that was pulled by its own name or by a tag does not supersede one of the default
        branch, nor the other way round.

        Args:
            keep: Documents to keep although a later one was pulled.

        Raises:
            StoreError: The store cannot be written.
        """
        with self._files.writing():
            records = self._records()
            latest = {
                (each.repository, each.folder, each.asked is None): each
                for each in _by_pull(records)
            }
            kept = {each.file_name for each in (*latest.values(), *keep)}
            return self._keep_only(kept, records)

    def _keep_only(self, names: Set[str], records: Mapping[str, Found]) -> Pruned:
        kept = _by_pull({name: found for name, found in records.items() if name in names})
        gone = {name: found for name, found in records.items() if name not in names}
        used = {file.sha256 for record in kept for file in record.files}
        # Records first: killed in between, this leaves no document without its files.
        paths = [self._files.lock(name) for name in gone]
        paths += [path for path in self._files.own(BLOBS_FOLDER) if path.name not in used]
        paths += self._files.leftovers()
        size = 0
        for path in paths:
            size += path.lstat().st_size
            path.unlink()
        files = tuple(path.relative_to(self.folder).as_posix() for path in paths)
        return Pruned(_by_pull(gone), files, size)

    def _content(self, file: StoredFile) -> bytes | None:
        """Return a file's content, None where it is missing or damaged."""
        with self._files.explained():
            data = read_whole(self._files.blob(file.sha256), file.size)
        return data if data is not None and _digest(data) == file.sha256 else None

    def _records(self) -> dict[str, Found]:
        """Return every record, or what is wrong with it, by its file's name."""
        records: dict[str, Found] = {}
        with self._files.explained():
            paths = self._files.settled(LOCKS_FOLDER)
        for path in paths:
            try:
                record = self._read_record(path)
            except DamagedError as error:
                records[path.name] = error
            else:
                if record is not None:  # Another process may just have removed it.
                    records[path.name] = record
        return records

    def _read_record(self, path: Path) -> LockRecord | None:
        with self._files.explained():
            try:
                with path.open("rb") as file:
                    data = file.read(MAX_LOCK_BYTES)
            except FileNotFoundError:
                return None
        try:
            record = LockRecord.from_json(data.decode(errors="replace"))
        except DocumentError as error:
            problem = f"not a lock record ({error.field}: {error.problem})"
            raise DamagedError("lock", (path.name,), problem, _PULL_AGAIN) from None
        if record.file_name != path.name:
            problem = f"names {record.source}, which is kept elsewhere"
            raise DamagedError("lock", (path.name,), problem, _PULL_AGAIN)
        return record


def _by_pull(records: Mapping[str, Found]) -> tuple[LockRecord, ...]:
    """Return the records that can be read, in the order in which they were pulled."""
    sound = [found for found in records.values() if isinstance(found, LockRecord)]
    return tuple(sorted(sound, key=lambda record: record.serial))


def _stored_file(path: str, data: bytes) -> StoredFile:
    return StoredFile(path=path, sha256=_digest(data), size=len(data))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
