"""The lock record of a pulled document: where it comes from, and what each of its files must be.

It is to a document what a line of a lock file is to a dependency: repository, commit, and the
digest and size of every file. Files come from strangers, so their names are a fixed few.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from otcache_registry.documents import strict_json
from otcache_registry.documents.fields import Budget, Count, Digest, Part, Text
from otcache_registry.documents.folder import (
    CARD_FILE,
    DOCUMENT_FILE,
    EDGES_FILE,
    FIGURES_FOLDER,
    MAX_EDGES_BYTES,
)
from otcache_registry.documents.refusals import document_error
from otcache_registry.documents.strict_json import MAX_DOCUMENT_BYTES
from otcache_registry.errors import DocumentError
from pydantic import (
    AwareDatetime,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

__all__ = ["LOCK_SCHEMA", "LockRecord", "StoredFile", "check_files", "lock_name"]

LOCK_SCHEMA: Final = "otcache.lock/v1"
"""Name of the one schema that this version reads and writes."""

MAX_CARD_BYTES = 2**20

MAX_FIGURE_BYTES = 10 * 2**20

MAX_FIGURES = 50

_LIMITS = {
    DOCUMENT_FILE: MAX_DOCUMENT_BYTES,
    EDGES_FILE: MAX_EDGES_BYTES,
    CARD_FILE: MAX_CARD_BYTES,
}
_FIGURE = re.compile(rf"{FIGURES_FOLDER}/[A-Za-z0-9][A-Za-z0-9._-]{{0,95}}\.png")

# Segments begin with a letter, a digit or "_": that leaves no way out of a folder.
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
Repository = Annotated[str, StringConstraints(max_length=200, pattern=rf"^{_SEGMENT}/{_SEGMENT}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Folder = Annotated[
    str, StringConstraints(max_length=500, pattern=rf"^({_SEGMENT}(/{_SEGMENT})*)?$")
]


def check_files(sizes: Mapping[str, int]) -> None:
    """Check that files make a document's folder, before they are fetched or kept.

    Args:
        sizes: Size in bytes by path inside the document's folder.

    Raises:
        DocumentError: There is no policy.json, a path is none of a document's files, a file is too
            large, or there are too many figures.
    """
    if DOCUMENT_FILE not in sizes:
        problem, remedy = "this file is missing", "Name a folder that holds a policy document"
        raise DocumentError(DOCUMENT_FILE, None, problem, remedy)
    figures = [path for path in sizes if _FIGURE.fullmatch(path)]
    if len(figures) > MAX_FIGURES:
        problem = f"{len(figures)} figures"
        raise DocumentError(FIGURES_FOLDER, figures, problem, f"Keep {MAX_FIGURES} of them at most")
    limits = {**_LIMITS, **dict.fromkeys(figures, MAX_FIGURE_BYTES)}
    for path, size in sizes.items():
        if path not in limits:
            allowed = f"{DOCUMENT_FILE}, {EDGES_FILE}, {CARD_FILE} and {FIGURES_FOLDER}/*.png"
            problem = "no file of a policy document"
            raise DocumentError("files", path, problem, f"Its files are {allowed}; remove others")
        if size > limits[path]:
            problem = f"{size} bytes, above the limit of {limits[path]}"
            raise DocumentError("files", path, problem, "Make this file smaller")


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
        model: Id of the model that the document is for.
        revision: Revision of that model, None where the document names none.
        num_inference_steps: Steps that the document is for.
        files: Its files, sorted by path.
        pulled: When it was pulled.
    """

    schema_: Literal["otcache.lock/v1"] = Field(alias="schema", default="otcache.lock/v1")
    repository: Repository
    commit: Commit
    folder: Folder
    model: Text
    revision: Text | None
    num_inference_steps: Budget
    files: tuple[StoredFile, ...]
    pulled: AwareDatetime

    @property
    def source(self) -> str:
        """The document's origin as shown to users, hub:user/name@commit#folder."""
        folder = f"#{self.folder}" if self.folder else ""
        return f"hub:{self.repository}@{self.commit}{folder}"

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
