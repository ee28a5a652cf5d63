"""What the front matter of a repository's card says of its documents, for whoever searches.

    otcache:
    - folder: <model revision>/<policy>/<sampling key>
      sha256: …              of its policy.json
      policy: otcache
      model: org/name
      …

Enough to choose a document by, so that none is fetched that is not chosen; and to write the card
anew with every document that is published, so that none of the others is read. Nothing in it is
believed that the document does not say itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Self

from otcache_registry.documents.document import PolicyDocument, Sampling, ServedBudgets
from otcache_registry.documents.evidence import headline
from otcache_registry.documents.names import document_folder, is_document_folder
from otcache_registry.documents.refusals import document_error
from otcache_registry.documents.values import (
    Budget,
    Count,
    Digest,
    Distribution,
    Identifier,
    Name,
    NotNegative,
    Part,
    Text,
)
from otcache_registry.errors import DocumentError
from otcache_registry.hub.listed import git_blob
from pydantic import Field, StringConstraints, ValidationError, model_validator

__all__ = ["INDEX_KEY", "IndexedDocument", "IndexedEvidence", "read_index"]

INDEX_KEY: Final = "otcache"
"""Key of the front matter."""

MOST_DOCUMENTS: Final = 10_000


NO_DIGEST: Final = "0" * 64
"""Stands for the digest of a document that is at hand, which nobody compares."""


class IndexedEvidence(Part):
    """The held-out figure nearest to what a run that asks for no budget gets.

    Attributes:
        metric: What was measured.
        budget: Computed steps that it was measured at.
        mean: Mean over the pairs.
        standard_error: Of that mean.
        pairs: How many there were.
    """

    metric: Text
    budget: Budget
    mean: float
    standard_error: NotNegative
    pairs: Count

    @classmethod
    def of(cls, document: PolicyDocument) -> Self | None:
        """Return a document's figure, None where it has no evidence."""
        rows = headline(document)
        if not rows:
            return None
        row, names = rows[0], cls.model_fields
        return cls(**{name: getattr(row, name) for name in names})


class IndexedDocument(Part):
    """A document as a card lists it.

    Attributes:
        folder: Its folder in the repository.
        sha256: SHA-256 of its policy.json.
        blob: SHA-1 by which Git names its policy.json, as the Hub lists it.
        policy: Name of its policy.
        distribution: What to install to use it, None where unknown.
        model: Id of its model.
        revision: Revision of that, None for any.
        sampling: What it was calibrated at, without sigmas.
        default_budget: Budget of a run that asks for none, None where it serves none.
        budgets: The budgets that it serves.
        published: Whether others published its schedules, and nobody calibrated them here.
        evidence: What its author measured, None where it has none.
    """

    folder: Annotated[str, Field(max_length=500)]
    sha256: Digest
    blob: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    policy: Name
    distribution: Distribution | None
    model: Identifier
    revision: Identifier | None
    sampling: Sampling
    default_budget: Budget | None
    budgets: ServedBudgets | None
    published: bool
    evidence: IndexedEvidence | None

    @classmethod
    def of(
        cls, document: PolicyDocument, sha256: str = NO_DIGEST, blob: str = NO_DIGEST[:40]
    ) -> Self:
        """Return what is listed of a document.

        Args:
            document: The document.
            sha256: SHA-256 of its policy.json, where somebody compares it.
            blob: SHA-1 of it as Git calls it, likewise.
        """
        return cls(
            folder=document_folder(document),
            sha256=sha256,
            blob=blob,
            policy=document.policy.name,
            distribution=document.policy.distribution,
            model=document.model.id,
            revision=document.model.revision,
            sampling=document.sampling.model_copy(update={"sigmas": None}),
            default_budget=document.default_budget,
            budgets=document.budgets,
            published=document.published is not None,
            evidence=IndexedEvidence.of(document),
        )

    @property
    def num_inference_steps(self) -> int:
        """Steps that it is for."""
        return self.sampling.num_inference_steps

    @classmethod
    def of_content(cls, content: bytes) -> tuple[PolicyDocument, Self]:
        """Read a policy.json; return it and what is listed of it.

        Raises:
            DocumentError: It is damaged or refused.
        """
        try:
            document = PolicyDocument.from_json(content.decode())
        except UnicodeDecodeError as error:
            remedy = "Ask whoever published it"
            raise DocumentError("document", content[:40], f"not UTF-8 ({error})", remedy) from None
        digest = hashlib.sha256(content).hexdigest()
        return document, cls.of(document, digest, git_blob(content))

    def to_dict(self) -> dict[str, Any]:
        """Return what is written into a card; what is unknown is left out."""
        return self.model_dump(mode="json", exclude_none=True)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, content: Any) -> Any:
        """Put back what a card leaves out, and arrays as the tuples that they are."""
        if not isinstance(content, Mapping):
            return content
        whole = {
            **dict.fromkeys(("distribution", "revision", "default_budget", "budgets", "evidence")),
            **content,
        }
        if isinstance(sampling := whole.get("sampling"), Mapping):
            unknown = dict.fromkeys(("sigmas", "height", "width"))
            whole["sampling"] = {"guidance": {}, **unknown, **sampling}
        if isinstance(served := whole["budgets"], Mapping) and "calibrated" in served:
            calibrated = served["calibrated"]
            listed = tuple(calibrated) if isinstance(calibrated, list) else calibrated
            whole["budgets"] = {**served, "calibrated": listed}
        return whole

    @model_validator(mode="after")
    def _check_folder(self) -> Self:
        if not is_document_folder(self.folder):
            problem, remedy = "not a document's folder", "Ask whoever published it"
            raise DocumentError("folder", self.folder, problem, remedy)
        return self


def read_index(
    card: Mapping[str, Any],
) -> tuple[tuple[IndexedDocument, ...], tuple[DocumentError, ...]]:
    """Return the documents that a card lists, and what is wrong with the others.

    Args:
        card: Its front matter.
    """
    listed = card.get(INDEX_KEY)
    if not isinstance(listed, Sequence) or isinstance(listed, str) or len(listed) > MOST_DOCUMENTS:
        problem = f"its card lists no documents under {INDEX_KEY!r}"
        remedy = "Name it with hub: before its name, or push to it once more"
        return (), (DocumentError(INDEX_KEY, None, problem, remedy),)
    documents, refused = [], []
    for entry in listed:
        try:
            documents.append(IndexedDocument.model_validate(entry))
        except ValidationError as error:
            refused.append(document_error(error, INDEX_KEY))
        except RecursionError:
            problem, remedy = "nested too deep", "Ask whoever published it"
            refused.append(DocumentError(INDEX_KEY, None, problem, remedy))
    return tuple(documents), tuple(refused)
