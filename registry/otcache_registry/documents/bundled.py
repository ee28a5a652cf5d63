"""Policy documents that ship with the package, one folder each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.folder import (
    DOCUMENT_FILE,
    StoredPolicy,
    read_document,
    read_policy,
)
from otcache_registry.errors import DocumentNotFoundError

__all__ = ["BundledPolicy", "bundled_policies", "find_bundled"]

BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled"


@dataclass(frozen=True)
class BundledPolicy:
    """A bundled document, listed without its edge table.

    Attributes:
        name: Name of its folder.
        document: The document.
    """

    name: str
    document: PolicyDocument

    def load(self) -> StoredPolicy:
        """Read it together with its edge table.

        Raises:
            DocumentError: Its files are damaged.
        """
        return read_policy(BUNDLED_FOLDER / self.name, source=f"bundled:{self.name}")


def bundled_policies() -> tuple[BundledPolicy, ...]:
    """Return the bundled documents, sorted by name; none is fine.

    Raises:
        DocumentError: One of them is damaged.
    """
    names = sorted(path.parent.name for path in BUNDLED_FOLDER.glob(f"*/{DOCUMENT_FILE}"))
    return tuple(BundledPolicy(name, read_document(BUNDLED_FOLDER / name)) for name in names)


def find_bundled(
    model_id: str, revision: str | None, num_inference_steps: int | None = None
) -> StoredPolicy:
    """Return the bundled policy of a model revision.

    A document of this very revision goes first, then one that names none and so holds for any.

    Args:
        model_id: The model's id, as in the document.
        revision: Exact revision of the weights, None where it is not known.
        num_inference_steps: Steps that it must be for, None for any. Of several documents the
            first by name is returned.

    Raises:
        DocumentNotFoundError: There is none; the error lists those there are.
        DocumentError: Its files are damaged.
    """
    bundled = bundled_policies()
    of_model = [entry for entry in bundled if entry.document.model.id == model_id]
    if not of_model:
        raise _not_found("model", model_id, "no bundled policy for this model", bundled)
    serving = [entry for entry in of_model if entry.document.model.revision in (revision, None)]
    if not serving:
        revisions = sorted({str(entry.document.model.revision) for entry in of_model})
        problem = f"the bundled policy of {model_id} is for revision {', '.join(revisions)}"
        raise _not_found("revision", revision, problem, of_model)
    for entry in sorted(serving, key=lambda entry: entry.document.model.revision is None):
        if num_inference_steps in (None, entry.document.num_inference_steps):
            return entry.load()
    problem = f"no bundled policy of {model_id} is for this number of steps"
    raise _not_found("num_inference_steps", num_inference_steps, problem, serving)


def _not_found(
    field: str, value: object, problem: str, known: Sequence[BundledPolicy]
) -> DocumentNotFoundError:
    if not known:
        remedy = "Nothing is bundled; calibrate a policy for this model"
        return DocumentNotFoundError(field, value, problem, remedy)
    listed = (
        f"{document.model.id} at {document.model.revision or 'any revision'} "
        f"({document.num_inference_steps} steps)"
        for document in (entry.document for entry in known)
    )
    remedy = f"Bundled: {'; '.join(listed)}. Calibrate a policy for any other"
    return DocumentNotFoundError(field, value, problem, remedy)
