"""The lock record of a pulled document: where it comes from, and what each of its files must be.

It is to a document what a line of a lock file is to a dependency: repository, commit, and the
digest and size of every file. Files come from strangers, so their names are a fixed few.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal, Self

from otcache_registry.documents import strict_json
from otcache_registry.documents.files import check_files
from otcache_registry.documents.names import SEGMENT
from otcache_registry.documents.references import HubReference
from otcache_registry.documents.refusals import document_error
from otcache_registry.documents.values import Budget, Count, Digest, Identifier, Name, Part, Text
from otcache_registry.errors import DocumentError
from pydantic import (
    AwareDatetime,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

__all__ = ["LOCK_SCHEMA", "LockRecord", "StoredFile", "lock_name"]

LOCK_SCHEMA: Final = "otcache.lock/v1"
"""Name of the one schema that this version reads and writes."""

Repository = Annotated[str, StringConstraints(max_length=200, pattern=rf"^{SEGMENT}/{SEGMENT}$")]
CommitId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Folder = Annotated[str, StringConstraints(max_length=500, pattern=rf"^({SEGMENT}(/{SEGMENT})*)?$")]


def lock_name(repository: str, commit: str, folder: str) -> str:
    """Return the file name of a document's lock record, whatever its own names look like."""
    key = "\n".join((repository, commit, folder))
    return f"{hashlib.sha256(key.encode()).hexdigest()}.json"


class StoredFile(Part):
    """One file of a pulled document.

    Attributes:
        path: Its path inside the document's folder, such as "figures/gaps.png".
        sha256: SHA-256 of its content, 64 hexadecimal digits.
        size: Its size in bytes.
    """

    path: Text
    sha256: Digest
    size: Count


class LockRecord(Part):
    """One pulled document. Its repository, commit and folder are its key.

    Attributes:
        schema_: Name of the schema, `LOCK_SCHEMA`; the argument and the key are called "schema".
        repository: Where it was pulled from, "user/name".
        commit: Commit of that repository, 40 hexadecimal digits.
        folder: Folder of the document inside the repository, "" for its root.
        policy: Name of the policy that the document is for.
        model: Id of the model that it is for.
        revision: Revision of that model, None where the document names none.
        num_inference_steps: Steps that the document is for.
        files: Its files, sorted by path.
        pulled: When it was pulled, by this machine's clock.
        serial: Number of that pull in the store: what was pulled last has the largest.
        asked: Revision that was asked for, None for the repository's default branch: a commit that
            was asked for by another name may be one that nobody has taken in.
    """

    schema_: Literal["otcache.lock/v1"] = Field(alias="schema", default="otcache.lock/v1")
    repository: Repository
    commit: CommitId
    folder: Folder
    policy: Name
    model: Identifier
    revision: Identifier | None
    num_inference_steps: Budget
    files: tuple[StoredFile, ...]
    pulled: AwareDatetime
    serial: Count
    asked: Text | None

    @property
    def source(self) -> str:
        """The document's origin as shown to users, hub:user/name@commit#folder."""
        return str(HubReference(self.repository, self.commit, self.folder or None))

    @property
    def namespace(self) -> str:
        """The user or organisation that its repository belongs to."""
        return self.repository.partition("/")[0]

    @property
    def file_name(self) -> str:
        """File name of this record."""
        return lock_name(self.repository, self.commit, self.folder)

    @property
    def size(self) -> int:
        """Size of all its files in bytes."""
        return sum(file.size for file in self.files)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a record.

        Raises:
            DocumentError: It is not JSON, of another schema, or not valid.
        """
        strict_json.parse(text)
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise document_error(error) from None

    def to_json(self) -> str:
        """Return indented JSON, ending in a newline; equal records give equal bytes."""
        return strict_json.dump(self.model_dump(mode="json", by_alias=True)) + "\n"

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        paths = [file.path for file in self.files]
        if paths != sorted(set(paths)):
            raise DocumentError("files", paths, "not sorted, or one of them twice", "Sort them")
        check_files({file.path: file.size for file in self.files})
        return self
