"""What the user says, besides the policy and the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Wanted:
    """What the user says of the document's model, and of the runs that it is for.

    Attributes:
        model: its id, with `revision`, where the pipeline's origin is unknown.
        revision: of it.
        allow_other_revision: take a document of another revision, with a warning.
        allow_other_model: take a document that is named though it is of another model, likewise.
        hub_answers: seconds for which the Hub's answers are kept; None for what is usual.
        executor: that runs the policy; None for the one that suits it.
        calibrator: of cache-dit that is asked for, by its name; None where none is.
        call_arguments: of the pipeline's calls, as far as they are known.
    """

    model: str | None = None
    revision: str | None = None
    allow_other_revision: bool = False
    allow_other_model: bool = False
    hub_answers: float | None = None
    executor: str | None = None
    calibrator: str | None = None
    call_arguments: Mapping[str, Any] = field(default_factory=dict)
