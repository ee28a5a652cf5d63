"""What cards, pages and the command say of a document's evidence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median

from otcache_registry.documents.document import EvidenceRow, PolicyDocument

__all__ = ["decimals", "headline", "own_rows"]


def own_rows(document: PolicyDocument) -> tuple[EvidenceRow, ...]:
    """Return the evidence of the document's own policy, without its peers'."""
    return tuple(row for row in document.evidence if row.policy == document.policy.name)


def headline(document: PolicyDocument) -> tuple[EvidenceRow, ...]:
    """Return the evidence nearest to what a run without a budget gets, a row per metric."""
    own = own_rows(document)
    if not own:
        return ()
    # A policy that decides during the run serves no budget: then the first is as near as any.
    wanted = document.default_budget or own[0].budget
    nearest = min(own, key=lambda row: abs(row.budget - wanted)).budget
    return tuple(row for row in own if row.budget == nearest)


def decimals(rows: Iterable[EvidenceRow]) -> int:
    """Return how many decimal places show two digits of the usual standard error, 2 to 12."""
    error = median(row.standard_error for row in rows)
    return min(max(1 - math.floor(math.log10(error)), 2), 12) if error > 0 else 2
