"""Documents that may be used, wherever they are, and the one that was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from otcache_registry.documents.folder import StoredPolicy
from otcache_registry.hub.index import IndexedDocument

__all__ = ["Candidate", "Resolved"]


@dataclass(frozen=True)
class Candidate:
    """A document that may be used.

    Attributes:
        document: What is known of it without reading it.
        source: Its origin as shown to users.
        load: Reads it with its tables; one on the Hub is fetched into the store first.
    """

    document: IndexedDocument
    source: str
    load: Callable[[], StoredPolicy]

    @property
    def policy(self) -> str:
        """Name of the policy that it is for."""
        return self.document.policy

    @property
    def revision(self) -> str | None:
        """Revision of the model that it is for, None for any."""
        return self.document.revision

    def __str__(self) -> str:
        steps = self.document.num_inference_steps
        return f"{self.source} (revision {self.revision or 'any'}, {steps} steps)"


@dataclass(frozen=True)
class Resolved:
    """The document that was found.

    Attributes:
        policy: The document with its tables.
        notes: What users should know about how it was found, a sentence each.
        others: Documents of the same policy and revision that would do as well, the one to prefer
            first. Which of all is nearest to a run only the run knows.
    """

    policy: StoredPolicy
    notes: tuple[str, ...]
    others: tuple[Candidate, ...] = ()
