"""Documents that may be used, wherever they are, and the one that was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.folder import StoredPolicy
from otcache_registry.hub.index_card import calibrated_at

__all__ = ["Candidate", "Resolved", "newest_first"]


@dataclass(frozen=True)
class Candidate:
    """A document that may be used.

    Attributes:
        document: The document.
        source: Its origin as shown to users.
        load: Reads it with its tables; one on the Hub is fetched into the store first.
    """

    document: PolicyDocument
    source: str
    load: Callable[[], StoredPolicy]

    @property
    def policy(self) -> str:
        """Name of the policy that it is for."""
        return self.document.policy.name

    @property
    def revision(self) -> str | None:
        """Revision of the model that it is for, None for any."""
        return self.document.model.revision

    @property
    def pipeline(self) -> str:
        """Class name of the pipeline that it was calibrated with."""
        return self.document.sampling.pipeline

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


def newest_first(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates from the one calibrated last to the first; equals stay in their order."""

    def moment(candidate: Candidate) -> datetime:
        return calibrated_at(candidate.document)

    return sorted(candidates, key=moment, reverse=True)
