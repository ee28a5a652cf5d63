"""What a policy says of its own part of a document, for cards and for the command.

The registry knows no policy's parameters: whoever knows them describes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from otcache_policies import Schedule
from otcache_registry.documents.document import PolicyDocument

__all__ = ["NO_DETAILS", "Column", "Describe", "PolicyDetails", "undescribed"]


@dataclass(frozen=True)
class Column:
    """Something that is said of every schedule.

    Attributes:
        heading: What it is.
        cells: Of each schedule, in their order; empty where there is nothing to say.
    """

    heading: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class PolicyDetails:
    """A document's parameters and calibration in words and drawings.

    Attributes:
        schedules: Schedules that the document holds, each after what it is, such as "anchor".
        heading: What these are called together, such as "family".
        columns: What else is said of each schedule.
        others: What schedules of other budgets are, such as "predicted".
        notes: Sentences about the parameters.
        calibration: What the calibration did, each after its subject, such as "search".
        searched: What a search was for, such as "8-step anchor".
        history: Lowest loss so far of that search, first its start's; empty where none was kept.
    """

    schedules: tuple[tuple[str, Schedule], ...] = ()
    heading: str = ""
    columns: tuple[Column, ...] = ()
    others: str = ""
    notes: tuple[str, ...] = ()
    calibration: tuple[tuple[str, str], ...] = ()
    searched: str = ""
    history: tuple[float, ...] = ()


NO_DETAILS: Final = PolicyDetails()

Describe = Callable[[PolicyDocument], PolicyDetails]
"""Describes a document of any policy; one that it does not know has no details."""


def undescribed(document: PolicyDocument) -> PolicyDetails:
    """Return no details, for whoever knows no policy."""
    return NO_DETAILS
