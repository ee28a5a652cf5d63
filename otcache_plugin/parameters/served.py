"""Which family serves a budget of an OTCache document, and by how much it is ahead."""

from __future__ import annotations

from typing import Annotated, Literal

from otcache_registry import DocumentError, Part
from otcache_registry.documents.values import Budget, NotNegative
from pydantic import Field, model_validator

Family = Literal["graph", "predicted", "optimised", "searched"]
"""How a schedule was found: by the graph policy, by transport from its neighbours, by minimising
the quadratic form, or by a search on the real model."""


class ServedBudget(Part):
    """How a budget's schedule was found, and what fresh pairs said of it.

    Attributes:
        budget: Computed steps.
        family: How the schedule was found.
        gain: By how much the best schedule of the other families loses less than the graph
            policy's best, in the units of the calibration's metric, over pairs that neither was
            chosen by. Below its standard error the graph policy's serves. None without such runs.
        standard_error: Of the gain.
        pairs: That both were run on.
    """

    budget: Budget
    family: Family
    gain: float | None = None
    standard_error: NotNegative | None = None
    pairs: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _check_gain(self) -> ServedBudget:
        given = [value is not None for value in (self.gain, self.standard_error, self.pairs)]
        if any(given) and not all(given):
            problem, remedy = "a gain, its standard error and its pairs", "Give all, or none"
            raise DocumentError("gain", self.gain, problem, remedy)
        return self
