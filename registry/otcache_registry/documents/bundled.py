"""Policy documents that ship with the package, one folder each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.files import DOCUMENT_FILE
from otcache_registry.documents.folder import StoredPolicy, read_document, read_policy
from otcache_registry.documents.references import BundledReference
from otcache_registry.errors import DocumentNotFoundError

__all__ = ["BundledPolicy", "bundled_names", "bundled_policies", "find_bundled", "read_bundled"]

BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled"


@dataclass(frozen=True)
class BundledPolicy:
    """A bundled document, listed without its tables.

    Attributes:
        name: Name of its folder.
        document: The document.
    """

    name: str
    document: PolicyDocument

    def load(self) -> StoredPolicy:
        """Read it together with its tables.

        Raises:
            DocumentError: Its files are damaged.
        """
        return read_bundled(self.name)


def bundled_names() -> tuple[str, ...]:
    """Return the names of the bundled documents, sorted."""
    folders = (path.parent for path in BUNDLED_FOLDER.glob(f"*/{DOCUMENT_FILE}"))
    return tuple(sorted(folder.name for folder in folders))


def read_bundled(name: str) -> StoredPolicy:
    """Read the bundled document of a name, one of `bundled_names()`.

    Raises:
        DocumentError: Its files are damaged.
    """
    return read_policy(BUNDLED_FOLDER / name, source=str(BundledReference(name)))


def bundled_policies() -> tuple[BundledPolicy, ...]:
    """Return the bundled documents, sorted by name; none is fine.

    Raises:
        DocumentError: One of them is damaged.
    """
    return tuple(
        BundledPolicy(name, read_document(BUNDLED_FOLDER / name)) for name in bundled_names()
    )


def find_bundled(
    policy: str, model_id: str, revision: str | None, num_inference_steps: int | None = None
) -> StoredPolicy:
    """Return the bundled document of a policy for a model revision.

    A document of this very revision goes first, then one that names none and so holds for any.

    Args:
        policy: Name of the policy, such as "otcache".
        model_id: The model's id, as in the document.
        revision: Exact revision of the weights, None where it is not known.
        num_inference_steps: Steps that it must be for, None for any. Of several documents the
            first by name is returned.

    Raises:
        DocumentNotFoundError: There is none; the error lists those there are.
        DocumentError: Its files are damaged.
    """
    bundled = [each for each in bundled_policies() if each.document.policy.name == policy]
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
