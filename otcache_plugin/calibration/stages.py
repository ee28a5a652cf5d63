"""The stages of a calibration, as progress and estimates call them, and who is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otcache_plugin.plugins.costs import StageCost


class CalibrationProgress(Protocol):
    """Is told how far long work is."""

    def plan(self, stages: Sequence[StageCost], part: float = 1.0) -> None:
        """Expect stages, in this order, of which this process runs a part of the steps."""
        ...

    def announce(self, stage: str) -> None:
        """Be told that something begins in which nothing is counted."""
        ...

    def start(self, stage: str, total: int) -> None:
        """Be told that a stage of at most `total` units of work begins."""
        ...

    def advance(self, steps: int = 0, before: bool = False) -> None:
        """Be told that one unit is done, in so many denoising steps, run now or before."""
        ...

    def ran(self, steps: int, before: bool = False) -> None:
        """Be told of so many denoising steps that are a part of a unit, likewise."""
        ...


class Unwatched:
    """Is told how far long work is, and nobody looks."""

    def plan(self, stages: Sequence[StageCost], part: float = 1.0) -> None: ...
    def announce(self, stage: str) -> None: ...
    def start(self, stage: str, total: int) -> None: ...
    def advance(self, steps: int = 0, before: bool = False) -> None: ...
    def ran(self, steps: int, before: bool = False) -> None: ...


LOADING = "loading the model"
STARTING_RAY = "starting Ray"
MEASURING_COSTS = "measuring one batch"
ENCODING = "encoding prompts"
REPLAYING = "replaying held-out pairs"

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
REFITTING = "optimising with the gains of all heats"
LAST_HEAT = "last heat"
LAST_FINAL = "finals of the last heat"
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
