"""The stages of a calibration, as progress and estimates call them, and who is told of them."""

from __future__ import annotations

from typing import Protocol


class CalibrationProgress(Protocol):
    """Is told how far a calibration is."""

    def start(self, stage: str, total: int) -> None:
        """A stage of at most `total` units of work begins."""
        ...

    def advance(self) -> None:
        """One unit is done."""
        ...


TUNING = "tuning the graph policy"
REFERENCE = "choosing the reference"
RHO = "choosing rho"
EVIDENCE = "evidence on held-out pairs"

OPTIMISING = "optimising the quadratic form"
FITTING = "optimising with gains"
FIRST_HEAT = "first heat"
FITTED_HEAT = "heat of fitted candidates"
SECOND_HEAT = "second heat"
FINAL = "finals on fresh pairs"
SEARCHED_FINAL = "finals of what was searched"
PREDICTED_FINAL = "finals of what is predicted"

ANCHOR = "the anchor"
"""What is searched first."""


def waypoint(budget: int) -> str:
    """Return what is searched after it, by its budget."""
    return f"{budget} steps"


def predicting(searched: str) -> str:
    """Return the choice of where a waypoint's search begins."""
    return f"predicting {searched}"


def searching(searched: str) -> str:
    """Return the search for the anchor or a waypoint."""
    return f"searching {searched}"


def pooling(searched: str) -> str:
    """Return the choice among what the searches of single pairs found."""
    return f"pooling {searched}"
