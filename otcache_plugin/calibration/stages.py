"""The stages of a calibration, as progress bars and estimates call them."""

from __future__ import annotations

RECORDING = "recording full runs"
TUNING = "tuning the graph policy"
REFERENCE = "choosing the reference"
RHO = "choosing rho"
EVIDENCE = "evidence on held-out pairs"

ANCHOR = "the anchor"
"""What is searched first."""


def waypoint(budget: int) -> str:
    """What is searched after it, by its budget."""
    return f"{budget} steps"


def predicting(searched: str) -> str:
    """The choice of where a waypoint's search begins."""
    return f"predicting {searched}"


def searching(searched: str) -> str:
    """The search for the anchor or a waypoint."""
    return f"searching {searched}"


def pooling(searched: str) -> str:
    """The choice among what the searches of single pairs found."""
    return f"pooling {searched}"
